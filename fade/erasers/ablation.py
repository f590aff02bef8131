"""Concept Ablation (Kumari et al. 2023, arXiv 2303.13516), its model-based form: the target's prompt learns
to mean the anchor's.

    L = ||eps(x_a,e) - sg[eps(x_a,a)]||^2

x_a are noised pictures of the anchor, sg stops the gradient: the model under training is its own teacher.
Ours: the anchor is the nearest neighbour (the authors take the broader concept); an adapter on the
cross-attention's keys and values takes the place of these weights; no mask."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fade.erasers.base import KEYS_VALUES, Eraser, ErasureBatch, ErasureWeight, Predictor, register
from fade.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor


def ablation(eps: Predictor, batch: ErasureBatch, config: ErasureWeight) -> tuple[Tensor, dict[str, Tensor]]:
    """One student call (n latents of the anchor) with a gradient and one without. Raises UsageError without
    any."""
    import torch

    mine = batch.which == 0  # the neighbours come nearest first
    x, t, n = batch.x_adj[mine], batch.t_adj[mine], int(mine.sum())
    if not n:
        what = "a batch without a picture of the nearest neighbour, which ablation takes as its anchor."
        action = "raise train.batch_neighbours to neighborhood.k or more."
        raise UsageError(what, stage="train", action=action)
    anchor, target = batch.neighbours[:1].expand(n), batch.target.expand(n)
    with torch.no_grad():
        goal = eps.student(x, t, anchor)
    erase = ((eps.student(x, t, target) - goal) ** 2).mean()
    return config.erase_weight * erase, {"erase": erase.detach()}


_SOURCE = (
    "arXiv 2303.13516; the nearest neighbour as the anchor and an adapter instead of the weights are ours"
)
_SETTINGS = (KEYS_VALUES, "mesh.rank=16", "mesh.alpha=16", "train.weight_decay=0")
register(
    Eraser(
        "ablation",
        "model",
        _SOURCE,
        ErasureWeight,
        ablation,
        requires_neighbours=True,
        accepts_anchors=True,
        settings=_SETTINGS,
    )
)
