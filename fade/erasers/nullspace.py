"""Erasure in the null space of what must stay: ours, from FADE's Concept Neighborhood and All but One's
demand (arXiv 2503.19783, 2312.12807).

FADE names what must survive, its mined neighbours; All but One wants the target's guidance term changed and
the unconditional score left alone. Both are penalties there. Here they are a space: the adapter sits on the
cross-attention's keys and values, all that the text enters by, and its down projection is fixed to the
directions a of the text space to which the target's token states c answer and those of what must stay do not:

    a = argmax  sum_{c in target} (a.c)^2 / [sum_{c in kept} (a.c)^2 + ridge |a|^2]

the leading generalised eigenvectors of the two second moments. Kept are the null prompt and the neighbours'
prompts on one side, random words and pairs of words of the tokenizer's vocabulary on the other, for all that
nobody thought of. Since the update is up (a.c), a prompt with a.c = 0 gets the original model's keys and
values, whatever is trained; only up is, on FADE's own

    L = lam_er max(0, mean_i ||eps(x,e) - eps0(x,a_i)||^2 - ||eps(x,e) - eps0(x,e)||^2 + delta) + lam_guid
    ||eps(x,e) - eps0(x,"")||^2

without its L_adj: the space holds what that penalty would. No step needs a neighbour's picture, and only the
target's latents go through the student.

Variants leave one part out each: ``words`` and ``neighbours`` one of the two sides of what is kept, ``free``
the space (the down projection is trained), and ``guidance`` puts ESD's negative guidance in the place of
FADE's loss."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from fade.data.vocabulary import fill
from fade.erasers import esd
from fade.erasers.base import Eraser, ErasureBatch, Extras, Loss, Predictor, Preparation, Space, register
from fade.erasers.fade import Attenuation
from fade.erasers.prompts import TARGET_TEMPLATES, retain_prompts
from fade.errors import TrainingError
from fade.utils.seeds import named_seed

if TYPE_CHECKING:
    from torch import Tensor


class Config(Attenuation, esd.Config):
    """FADE's and ESD's knobs, and those of the space."""

    words: Annotated[int, Field(ge=0)] = 400
    """How many words of the tokenizer's vocabulary, and as many pairs of them, are kept."""
    ridge: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.003
    """How far the space may be from the very null space, in shares of the kept moment's mean eigenvalue."""


def prepare(target: Preparation, config: Config) -> Extras:
    """``language`` (W, T, D): prompts of random words, for language at large. ``phrasings`` (P, T, D):
    several ways to name the target, its own prompt first."""
    import torch

    generator = torch.Generator().manual_seed(named_seed(target.seed, "language"))
    excluded = {*target.heldout, target.target}
    words = retain_prompts(target.model.tokenizer, target.prompt, config.words, excluded, generator)
    language = target.model.encode(words) if words else target.embedding[:0]
    templates = [fill(template, target.target) for template in TARGET_TEMPLATES]
    phrasings = torch.cat([target.embedding, target.model.encode(templates)])
    return lambda _: {"language": language, "phrasings": phrasings}


def attenuation(eps: Predictor, batch: ErasureBatch, config: Config) -> tuple[Tensor, dict[str, Tensor]]:
    """FADE's L_er and L_guid. One student call (n_t latents) and one teacher call (n_t (K + 2))."""
    import torch

    n_t, prompts = len(batch.x), torch.cat([batch.target, batch.null, batch.neighbours])  # (K + 2, T, D)
    x, t = batch.x.repeat(len(prompts), 1, 1, 1), batch.t.repeat(len(prompts))
    old, null, *positives = eps.teacher(x, t, prompts.repeat_interleave(n_t, dim=0)).split(n_t)
    anchor = eps.student(batch.x, batch.t, batch.target.expand(n_t, -1, -1))
    pull = ((anchor[None] - torch.stack(positives)) ** 2).mean()  # mean over neighbours, latents and elements
    push = ((anchor - old) ** 2).mean()
    l_er = (pull - push + config.margin).clamp_min(0)
    l_guid = ((anchor - null) ** 2).mean()
    return config.erase_weight * l_er + config.guidance_weight * l_guid, {
        "erase": l_er.detach(),
        "guidance": l_guid.detach(),
    }


def space(
    batches: Sequence[ErasureBatch], rank: int, config: Config, *, words: bool = True, neighbours: bool = True
) -> Tensor:
    """The down projections' rows (rank, D), float32; the first of a target answers to its token states with a
    root mean square of 1.

    The others are as long as lets them answer to what is kept no more than it does: the less a direction
    tells the target apart, the less it says. Several targets share the rank. ``words``, ``neighbours``:
    whether that side is kept; the null prompt always is. The larger ``method.ridge`` (in shares of the kept
    moment's mean eigenvalue), the shorter the rows, and the worse they are kept apart. Solved in float64.
    Raises TrainingError when the rank is lower than the number of targets."""
    import torch

    if rank < len(batches):
        action = f"set mesh.rank and mesh.alpha to {len(batches)}."
        raise TrainingError(
            f"mesh.rank {rank} is too low for {len(batches)} targets.", stage="train", action=action
        )
    rows = []
    for i, batch in enumerate(batches):
        share = rank // len(batches) + (i < rank % len(batches))
        near = [batch.null, batch.neighbours] if neighbours else [batch.null]
        sides = [
            torch.cat(near),
            *([batch.extra["language"]] if words and len(batch.extra["language"]) else []),
        ]
        kept = torch.stack([_moment(side) for side in sides]).mean(0)
        floor = (
            config.ridge
            * kept.trace()
            / len(kept)
            * torch.eye(len(kept), dtype=kept.dtype, device=kept.device)
        )
        half = torch.linalg.inv(torch.linalg.cholesky(kept + floor))
        _, vectors = torch.linalg.eigh(half @ _moment(batch.extra["phrasings"]) @ half.T)  # ascending
        found = vectors.flip(1)[:, :share].T @ half  # (share, D)
        found = found / (batch.extra["phrasings"].double().flatten(0, 1) @ found[0]).square().mean().sqrt()
        largest = found.gather(1, found.abs().argmax(1, keepdim=True))
        rows.append(
            found * largest.sign()
        )  # an eigenvector's sign is free: fixed, so that the same job gives the same bytes
    return torch.cat(rows).float()


def _moment(states: Tensor) -> Tensor:
    """Second moment (D, D), float64, of token states (N, T, D)."""
    flat = states.double().flatten(0, 1)
    return flat.T @ flat / len(flat)


_SOURCE = (
    "ours, from FADE's neighbourhood and loss (2503.19783) and All but One's untouched unconditional "
    "score (2312.12807)"
)
_SETTINGS = (
    "mesh.targets=[attn2.to_k,attn2.to_v]",
    "mesh.rank=2",
    "mesh.alpha=2",
    "train.lr=0.02",
    "train.steps=100",
    "train.weight_decay=0.2",
    "train.batch_target=4",
)
_PARTS: dict[str, tuple[Loss, Space | None]] = {
    "hinge": (attenuation, space),
    "guidance": (esd.esd, space),
    "words": (attenuation, partial(space, neighbours=False)),
    "neighbours": (attenuation, partial(space, words=False)),
    "free": (attenuation, None),
}
VARIANTS = [
    register(
        Eraser(
            "nullspace",
            variant,
            _SOURCE,
            requires_neighbours=True,
            config=Config,
            loss=loss,
            space=rows,
            settings=_SETTINGS,
            prepare=prepare if rows else None,
            requires_heldout=rows is not None,
        )
    )
    for variant, (loss, rows) in _PARTS.items()
]
