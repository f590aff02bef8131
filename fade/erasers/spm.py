"""SPM, One-dimensional Adapter to Rule Them All (Lyu et al. 2024, arXiv 2312.16145): ESD's target with latent
anchoring.

    L = ||eps(x,e) - (eps0(x,"") - eta (eps0(x,e) - eps0(x,"")))||^2 + lam ||eps(x,r) - eps0(x,r)||^2

r are random text embeddings of about the target's length, one a latent (fade/training/batches.py draws them):
the adapter of rank 1 is asked to do nothing wherever the target is not meant, without a list of what that is.
Ours: x comes from the stored pictures of the target that every method gets, AdamW in float32 takes the place
of the one in 8 bit, and both terms share one batch.

Its second half, scaling the adapter by how much a prompt means the target, is no part of the training: see
fade/adapters/gating.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fade.erasers.base import ErasureBatch, Method, Predictor, register

if TYPE_CHECKING:
    from torch import Tensor

    from fade.config import MethodConfig


def spm(eps: Predictor, batch: ErasureBatch, config: MethodConfig) -> tuple[Tensor, dict[str, Tensor]]:
    """One student call (2 n_t latents) and one teacher call (3 n_t)."""
    import torch

    n_t, r = len(batch.x), batch.random
    e, null = batch.target.expand(n_t, -1, -1), batch.null.expand(n_t, -1, -1)
    x, t = batch.x, batch.t
    old, empty, still = eps.teacher(
        torch.cat([x, x, x]), torch.cat([t, t, t]), torch.cat([e, null, r])
    ).split(n_t)
    new, anchored = eps.student(torch.cat([x, x]), torch.cat([t, t]), torch.cat([e, r])).split(n_t)
    erase = ((new - (empty - config.eta * (old - empty))) ** 2).mean()
    anchoring = ((anchored - still) ** 2).mean()
    loss = config.erase_weight * erase + config.anchoring_weight * anchoring
    return loss, {"erase": erase.detach(), "anchoring": anchoring.detach()}


SPM = register(
    Method(
        "spm",
        "latent-anchoring",
        "arXiv 2312.16145; the stored latents, and AdamW in float32 instead of 8 bit, are ours",
        needs_neighbours=False,
        loss=spm,
        recipe=(
            "train.lr=0.0001",
            "train.steps=3000",
            "train.batch_target=1",
            "method.erase_weight=1",
            "method.anchoring_weight=1000",
        ),
        settings=("mesh.rank=1", "mesh.alpha=1", "train.weight_decay=0"),
        takes_anchors=True,
        needs_random=True,
    )
)
