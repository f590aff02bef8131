"""All but One, surgical concept erasing (AAAI 2024, arXiv 2312.12807), built from its abstract alone.

The abstract asks for a surgical update of the classifier-guidance term while the unconditional score term is
kept from drifting, and lets the user name an alternative to the erased concept. With u(x) = eps(x, "") and
g(x, c) = eps(x, c) - u(x):

    L = ||g(x,e) - g0(x,a)||^2 + lam ||u(x) - u0(x)||^2

a is the alternative's prompt; without one it is the null prompt, so that g0(x, a) = 0. The equations, the
weights and all numbers of the paper are unknown to us: all of the above is ours, and so are its latents
(those of every other method: the drift is taken at the target's and at the other prompts').

Variant ``stop_grad``: u inside g(x, e) carries no gradient, so that the guidance term cannot be met by moving
u."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from fade.config.method import MethodOptions
from fade.config.section import Weight
from fade.erasers.base import Eraser, ErasureBatch, Loss, Predictor, register
from fade.models.capabilities import NULL_PROMPT

if TYPE_CHECKING:
    from torch import Tensor

    from fade.models.conditioning import Conditioning


class Config(MethodOptions):
    """The weights of the two terms."""

    guidance_weight: Weight = 1.0
    """Weight of the guidance term."""
    drift_weight: Weight = 1.0
    """lam: weight of the null prompt's drift."""


def surgical(
    eps: Predictor, batch: ErasureBatch, config: Config, *, stop: bool = False
) -> tuple[Tensor, dict[str, Tensor]]:
    """One student call (2 n_t + n_a latents) and one teacher call of the same size; ``stop`` holds u fixed
    inside g(x, e)."""
    import torch

    n_t, n_a = len(batch.x), len(batch.x_adj)
    x, t = torch.cat([batch.x, batch.x, batch.x_adj]), torch.cat([batch.t, batch.t, batch.t_adj])

    def prompts(first: Conditioning) -> Conditioning:
        return first.expand(n_t).join(batch.null.expand(n_t + n_a))

    new = eps.student(x, t, prompts(batch.target))
    old = eps.teacher(x, t, prompts(batch.replacement))
    (conditional, u), (goal, u_0) = (
        (out[:n_t], out[n_t:]) for out in (new, old)
    )  # (n_t, ...), (n_t + n_a, ...)
    at_target = u[:n_t].detach() if stop else u[:n_t]
    l_guid = (((conditional - at_target) - (goal - u_0[:n_t])) ** 2).mean()
    drift = ((u - u_0) ** 2).mean()
    loss = config.guidance_weight * l_guid + config.drift_weight * drift
    return loss, {"guidance": l_guid.detach(), "drift": drift.detach()}


_SOURCE = "arXiv 2312.12807, built from its abstract; the equations and weights are ours"
_LOSSES: dict[str, Loss] = {"guidance": surgical, "stop_grad": partial(surgical, stop=True)}
for _variant, _loss in _LOSSES.items():
    _eraser = Eraser(
        "surgical",
        _variant,
        _SOURCE,
        Config,
        _loss,
        requires=(NULL_PROMPT,),
        accepts_replacement=True,
        accepts_anchors=True,
    )
    register(_eraser)
