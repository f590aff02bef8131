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
from fade.erasers.base import Eraser, ErasureBatch, ErasureWeight, Predictor, register

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
    e = batch.target.expand(n_t, -1, -1)
    prompts = torch.cat([e, batch.null.expand(n_t, -1, -1)])
    old, null = eps.teacher(
        torch.cat([batch.x, batch.x]), torch.cat([batch.t, batch.t]), prompts
    ).tensor_split([n_t])
    wanted = null - config.eta * (old - null)
    erase = ((eps.student(batch.x, batch.t, e) - wanted) ** 2).mean()
    return config.erase_weight * erase, {"erase": erase.detach()}


_SOURCE = "arXiv 2303.07345; an adapter instead of the weights, and the stored latents, are ours"
_ATTENTION = "to_q,to_k,to_v,to_out.0"
_TRAINED = {
    "x": ",".join(f"attn2.{name}" for name in _ATTENTION.split(",")),
    "u": ",".join(
        [
            *(f"attn1.{name}" for name in _ATTENTION.split(",")),
            "ff.net.0.proj",
            "ff.net.2",
            "proj_in",
            "proj_out",
        ]
    ),
    "x-strict": "attn2.to_k,attn2.to_v",
}
_FREE = (
    "mesh.rank=16",
    "mesh.alpha=16",
    "train.weight_decay=0",
)  # the authors train whole weights and shrink nothing
VARIANTS = [
    register(
        Eraser(
            "esd",
            variant,
            _SOURCE,
            config=Config,
            loss=esd,
            settings=(f"mesh.targets=[{parts}]", *_FREE),
            accepts_anchors=True,
        )
    )
    for variant, parts in _TRAINED.items()
]
