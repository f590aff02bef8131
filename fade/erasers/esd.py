"""ESD, Erasing Concepts from Diffusion Models (Gandikota et al. 2023, arXiv 2303.07345): negative guidance as
a training target.

    L = ||eps(x,e) - (eps0(x,"") - eta (eps0(x,e) - eps0(x,"")))||^2

Variants say what is trained: ``x`` the cross-attention, ``u`` everything else, ``x-strict`` the
cross-attention's keys and values alone. Ours: an adapter takes the place of the weights themselves (mesh.rank
bounds it), and x comes from the stored pictures of the target that every method gets, where the authors
sample it anew in each step from the model under training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fade.config.section import Weight
from fade.erasers.base import (
    KEYS_VALUES,
    NULL_PROMPT,
    Eraser,
    ErasureBatch,
    ErasureWeight,
    Predictor,
    register,
)

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


_SOURCE = "arXiv 2303.07345; an adapter instead of the weights, and the stored latents, are ours"
_TRAINED = {
    "x": "mesh.targets=[cross]",
    "u": "mesh.targets=[self,ff.net.0.proj,ff.net.2,proj_in,proj_out]",
    "x-strict": KEYS_VALUES,
}
for _variant, _targets in _TRAINED.items():
    # The authors train whole weights and shrink nothing.
    _settings = (_targets, "mesh.rank=16", "mesh.alpha=16", "train.weight_decay=0")
    register(
        Eraser(
            "esd",
            _variant,
            _SOURCE,
            Config,
            esd,
            requires=(NULL_PROMPT,),
            accepts_anchors=True,
            settings=_settings,
        )
    )
