"""SPM, One-dimensional Adapter to Rule Them All (Lyu et al. 2024, arXiv 2312.16145): ESD's target with latent
anchoring.

    L = ||eps(x,e) - (eps0(x,"") - eta (eps0(x,e) - eps0(x,"")))||^2 + lam ||eps(x,r) - eps0(x,r)||^2

r are random text embeddings of about the target's length, one a latent (`prepare` samples them):
the adapter of rank 1 is asked to do nothing wherever the target is not meant, without a list of what that is.
Ours: x comes from the stored pictures of the target that every method gets, AdamW in float32 takes the place
of the one in 8 bit, and both terms share one batch, with one anchor a latent (the authors': four a step).

Its second half, scaling the adapter by how much a prompt means the target (Facilitated Transport), is no
part of the training: see fade/adapters/gating.py. The variant ``gated`` has it in the evaluation's
pictures, as the authors do; attacks and drift are of the adapter as it is, for who attacks has the
weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fade.config.section import Weight
from fade.erasers import esd
from fade.erasers.base import Eraser, ErasureBatch, Extras, Predictor, Preparation, register
from fade.models.capabilities import NULL_PROMPT

if TYPE_CHECKING:
    import torch
    from torch import Tensor


LENGTHS = (0.8, 1.2)
"""Shortest and longest random embedding, in lengths of the target's."""


class Config(esd.Config):
    """ESD's knobs and the anchoring."""

    anchoring_weight: Weight = 1000.0
    """lam of the latent anchoring: how strongly the prediction under random embeddings is kept as it was."""


def prepare(target: Preparation, config: Config) -> Extras:
    """``random``: n_t prompts of random token states of the target's scale, one a target latent; the rest of
    their conditioning is the target's."""
    like, n = target.conditioning, target.n_target
    return lambda generator: {"random": like.with_tokens(random_embeddings(like.tokens, n, generator))}


def random_embeddings(like: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """(n, T, D) embeddings of a random direction and about the length of ``like`` (1, T, D), on its device.

    Each is standard normal, scaled as one vector of T D numbers to 0.8 to 1.2 times the length of ``like``: r
    of SPM's latent anchoring. They lie where no prompt does, on purpose: what is kept there is kept by the
    adapter as a whole, not for the words that someone thought of."""
    import torch

    noise = torch.randn(n, *like.shape[1:], generator=generator)
    length = LENGTHS[0] + (LENGTHS[1] - LENGTHS[0]) * torch.rand(n, 1, 1, generator=generator)
    lengths = torch.linalg.vector_norm(noise, dim=(1, 2), keepdim=True)
    out: Tensor = (noise * (length * torch.linalg.vector_norm(like.cpu()) / lengths)).to(like.device)
    return out


def spm(eps: Predictor, batch: ErasureBatch, config: Config) -> tuple[Tensor, dict[str, Tensor]]:
    """One student call (2 n_t latents) and one teacher call (3 n_t)."""
    import torch

    n_t, r = len(batch.x), batch.extra["random"]
    e, null = batch.target.expand(n_t), batch.null.expand(n_t)
    x, t = batch.x, batch.t
    old, empty, still = eps.teacher(torch.cat([x, x, x]), torch.cat([t, t, t]), e.join(null, r)).split(n_t)
    new, anchored = eps.student(torch.cat([x, x]), torch.cat([t, t]), e.join(r)).split(n_t)
    erase = ((new - (empty - config.eta * (old - empty))) ** 2).mean()
    anchoring = ((anchored - still) ** 2).mean()
    loss = config.erase_weight * erase + config.anchoring_weight * anchoring
    return loss, {"erase": erase.detach(), "anchoring": anchoring.detach()}


_SOURCE = "arXiv 2312.16145; the stored latents, and AdamW in float32 instead of 8 bit, are ours"
_RECIPE = (
    "train.lr=0.0001", "train.steps=3000", "train.batch_target=1", "method.erase_weight=1",
    "method.anchoring_weight=1000",
)  # fmt: skip
for _variant, _gated in {"latent-anchoring": False, "gated": True}.items():
    register(
        Eraser(
            "spm",
            _variant,
            f"{_SOURCE}; gated in the evaluation" if _gated else _SOURCE,
            Config,
            spm,
            requires=(NULL_PROMPT,),
            prepare=prepare,
            accepts_anchors=True,
            recipe=_RECIPE,
            settings=("mesh.rank=1", "mesh.alpha=1", "train.weight_decay=0"),
            gated=_gated,
        )
    )
