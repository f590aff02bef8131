"""Erasure in the null space of what must stay: ours, from FADE's Concept Neighborhood and All but One's demand (science.md 1, 2).

FADE names what must survive, its mined neighbours; All but One wants the target's guidance term changed and the unconditional
score left alone. Both are penalties there. Here they are a space: the adapter sits on the cross-attention's values alone (what
is read from the prompt, not where it is put), and its down projection is fixed to the directions a of the text space to which
the target's token states c answer and those of what must stay do not:

    a = argmax  sum_{c in target} (a.c)^2 / [sum_{c in kept} (a.c)^2 + ridge |a|^2]

the leading generalised eigenvectors of the two second moments. Kept are the null prompt and the neighbours' prompts on one
side, random words and pairs of words of the tokenizer's vocabulary on the other, for all that nobody thought of. Since the
update is up (a.c), a prompt with a.c = 0 gets the original model's values, whatever is trained; only up is, on

    L = ||eps(x,e) - (eps0(x,"") - eta (eps0(x,e) - eps0(x,"")))||^2

the negative guidance of ESD; eta = 0 asks for the null prompt's score. No step needs a neighbour's picture.

Variants leave one part out each: ``words`` and ``neighbours`` one of the two sides of what is kept, ``free`` the space (the down
projection is trained), and ``hinge`` puts FADE's loss in the place of the negative guidance.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from fade.errors import TrainingError
from fade.methods import Batch, Method, Space, register
from fade.methods.esd import esd
from fade.methods.fade import paper

if TYPE_CHECKING:
    from torch import Tensor

    from fade.config import MethodConfig


def space(batches: Sequence[Batch], rank: int, config: MethodConfig, *, words: bool = True, neighbours: bool = True) -> Tensor:
    """The down projections' rows (rank, D), float32, each answering to its target's token states with a root mean square of 1.

    Several targets share the rank. ``words``, ``neighbours``: whether that side is kept; the null prompt always is. The
    larger ``method.ridge`` (in shares of the kept moment's mean eigenvalue), the shorter the rows, and the worse they are kept
    apart. Solved in float64. Raises TrainingError when the rank is lower than the number of targets.
    """
    import torch

    if rank < len(batches):
        action = f"set mesh.rank and mesh.alpha to {len(batches)}."
        raise TrainingError(f"mesh.rank {rank} is too low for {len(batches)} targets.", stage="train", action=action)
    rows = []
    for i, batch in enumerate(batches):
        share = rank // len(batches) + (i < rank % len(batches))
        near = [batch.null, batch.neighbours] if neighbours else [batch.null]
        sides = [torch.cat(near), *([batch.language] if words and len(batch.language) else [])]
        kept = torch.stack([_moment(side) for side in sides]).mean(0)
        floor = config.ridge * kept.trace() / len(kept) * torch.eye(len(kept), dtype=kept.dtype, device=kept.device)
        half = torch.linalg.inv(torch.linalg.cholesky(kept + floor))
        _, vectors = torch.linalg.eigh(half @ _moment(batch.phrasings) @ half.T)  # ascending
        found = vectors.flip(1)[:, :share].T @ half  # (share, D)
        found = found / (batch.phrasings.double().flatten(0, 1) @ found.T).square().mean(0).sqrt()[:, None]
        largest = found.gather(1, found.abs().argmax(1, keepdim=True))
        rows.append(found * largest.sign())  # an eigenvector's sign is free: fixed, so that the same job gives the same bytes
    return torch.cat(rows).float()


def _moment(states: Tensor) -> Tensor:
    """Second moment (D, D), float64, of token states (N, T, D)."""
    flat = states.double().flatten(0, 1)
    return flat.T @ flat / len(flat)


_SOURCE = "ours, from FADE's neighbourhood (2503.19783) and All but One's untouched unconditional score (2312.12807); the loss is ESD's"
_SETTINGS = (
    "mesh.targets=[attn2.to_v]",
    "mesh.rank=1",
    "mesh.alpha=1",
    "train.lr=0.05",
    "train.steps=100",
    "train.weight_decay=0.2",
    "train.batch_target=8",
)
_SPACES: dict[str, Space | None] = {
    "guidance": space,
    "hinge": space,
    "words": partial(space, neighbours=False),
    "neighbours": partial(space, words=False),
    "free": None,
}
VARIANTS = [
    register(
        Method(
            "nullspace",
            variant,
            _SOURCE,
            needs_neighbours=variant not in ("words", "free"),
            loss=paper if variant == "hinge" else esd,
            space=found,
            settings=_SETTINGS,
            needs_language=found is not None,
        )
    )
    for variant, found in _SPACES.items()
]
