"""ESD, Erasing Concepts from Diffusion Models (Gandikota et al. 2023, arXiv 2303.07345): negative guidance as
a training target.

    L = ||eps(x,e) - (eps0(x,"") - eta (eps0(x,e) - eps0(x,"")))||^2

Variants say what is trained: ``x`` the cross-attention, ``x-strict`` its keys and values alone, ``self``
the rest of the transformer blocks (self-attention, feed-forward, projections). ESD-u of the paper, the
rest of the UNet, also trains the convolutions between the blocks, where no adapter of ours sits: it is
not here.

Ours in all of them: an adapter takes the place of the weights themselves (mesh.rank bounds it; biases stay).
Ours in all but ``x-2025``: x comes from the stored pictures of the target that every method gets, where the
authors sample it anew in each step, and the rate decays.

``x-2025`` follows the authors' code of 2025: x by a partial trajectory of the original model under e
(guidance 3, stopped at random), a constant rate, no clipping, 200 steps of one latent. It differs in the
adapter, whose rate is therefore tuned (theirs is 5e-5 on whole weights), and in the trajectory's 30
steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fade.config.section import Weight
from fade.erasers.base import (
    KEYS_VALUES,
    Eraser,
    ErasureBatch,
    ErasureWeight,
    Predictor,
    SharedLatents,
    register,
)
from fade.models.capabilities import NULL_PROMPT

if TYPE_CHECKING:
    from torch import Tensor


class Config(ErasureWeight):
    """ESD's knobs."""

    eta: Weight = 1.0
    """How far beyond the null prompt the target lies (negative guidance)."""


def esd(eps: Predictor, batch: ErasureBatch, config: Config) -> tuple[Tensor, dict[str, Tensor]]:
    """One student call (n_t latents) and one teacher call (2 n_t)."""
    import torch

    n_t = len(batch.x)
    e = batch.target.expand(n_t)
    prompts = e.join(batch.null.expand(n_t))
    old, null = eps.teacher(
        torch.cat([batch.x, batch.x]), torch.cat([batch.t, batch.t]), prompts
    ).tensor_split([n_t])
    goal = null - config.eta * (old - null)
    erase = ((eps.student(batch.x, batch.t, e) - goal) ** 2).mean()
    return config.erase_weight * erase, {"erase": erase.detach()}


_STORED = "arXiv 2303.07345; an adapter instead of the weights, and the stored latents, are ours"
_SAMPLED = "arXiv 2303.07345, its authors' code of 2025; an adapter instead of the weights is ours"
_CROSS = "mesh.targets=[cross]"
_SELF = "mesh.targets=[self,ff.net.0.proj,ff.net.2,proj_in,proj_out]"
_RECIPE = (
    "train.steps=200", "train.batch_target=1", "train.max_grad_norm=1000000", "method.erase_weight=1",
    "method.eta=1",
)  # fmt: skip
_VARIANTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "x": (_CROSS, _STORED, {}),
    "self": (_SELF, f"{_STORED}; not ESD-u, which trains the convolutions too", {"aliases": ("u",)}),
    "x-strict": (KEYS_VALUES, _STORED, {}),
    "x-2025": (
        _CROSS,
        _SAMPLED,
        {"latents": SharedLatents("original"), "schedule": "constant", "recipe": _RECIPE},
    ),
}
for _variant, (_targets, _source, _more) in _VARIANTS.items():
    # The authors train whole weights and shrink nothing.
    _settings = (_targets, "mesh.rank=16", "mesh.alpha=16", "train.weight_decay=0")
    register(
        Eraser(
            "esd",
            _variant,
            _source,
            Config,
            esd,
            requires=(NULL_PROMPT,),
            accepts_anchors=True,
            settings=_settings,
            **_more,
        )
    )
