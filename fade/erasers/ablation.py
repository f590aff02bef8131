"""Concept Ablation (Kumari et al. 2023, arXiv 2303.13516), its model-based form: the target's prompt learns
to mean the anchor's.

    L = ||eps(x_a,e) - sg[eps(x_a,a)]||^2

x_a are noised pictures of the anchor, sg stops the gradient: the model under training is its own teacher.

Variants say what the anchor is. ``broader``, as the authors': a broader concept, here the target's family in
the vocabulary, which none of the evaluations judges (the null prompt where there is no family); x_a is a
partial trajectory of the original model under its prompt, which needs no stored pictures. ``nearest``: the
nearest neighbour with its stored pictures, which is given and judged.

Ours: these two ways to latents (the authors noise generated pictures of the anchor), and an adapter on the
cross-attention's keys and values in the place of these weights; no mask."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fade.erasers.base import (
    KEYS_VALUES,
    Eraser,
    ErasureBatch,
    ErasureWeight,
    Predictor,
    SharedLatents,
    register,
)
from fade.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from fade.models.conditioning import Conditioning

    Terms = tuple[Tensor, dict[str, Tensor]]


def nearest(eps: Predictor, batch: ErasureBatch, config: ErasureWeight) -> Terms:
    """One student call (n latents of the anchor) with a gradient and one without. Raises UsageError without
    any."""
    mine = batch.which == 0  # the neighbours come nearest first
    x, t = batch.x_adj[mine], batch.t_adj[mine]
    if not len(x):
        what = "a batch without a picture of the nearest neighbour, which ablation takes as its anchor."
        action = "raise train.batch_neighbours to neighborhood.k or more."
        raise UsageError(what, stage="train", action=action)
    return _ablation(eps, x, t, batch.neighbours[:1], batch.target, config)


def broader(eps: Predictor, batch: ErasureBatch, config: ErasureWeight) -> Terms:
    """As `nearest`, on the n_t latents of the broader concept."""
    return _ablation(eps, batch.x, batch.t, batch.extra["anchor"], batch.target, config)


def _ablation(
    eps: Predictor, x: Tensor, t: Tensor, a: Conditioning, e: Conditioning, config: ErasureWeight
) -> Terms:
    import torch

    anchor, target = a.expand(len(x)), e.expand(len(x))
    with torch.no_grad():
        goal = eps.student(x, t, anchor)
    erase = ((eps.student(x, t, target) - goal) ** 2).mean()
    return config.erase_weight * erase, {"erase": erase.detach()}


_SETTINGS = (KEYS_VALUES, "mesh.rank=16", "mesh.alpha=16", "train.weight_decay=0")
register(
    Eraser(
        "ablation",
        "broader",
        "arXiv 2303.13516; latents by partial trajectories and an adapter instead of the weights are ours",
        ErasureWeight,
        broader,
        accepts_anchors=True,
        latents=SharedLatents("original", of="family"),
        settings=_SETTINGS,
    )
)
register(
    Eraser(
        "ablation",
        "nearest",
        "arXiv 2303.13516; the nearest neighbour as anchor and an adapter instead of the weights are ours",
        ErasureWeight,
        nearest,
        requires_neighbours=True,
        accepts_anchors=True,
        settings=_SETTINGS,
        aliases=("model",),
    )
)
