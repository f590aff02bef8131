"""SPEED (arXiv 2503.07392): keys and values of the cross-attention in closed form, changed only where nothing
that must stay is read.

    min_D  ||(W + D) c_e - W c_a||^2 + lam ||D||^2     with D = D P, D c_0 = 0

c_e are the target's token states, c_a those of what takes its place, c_0 the null prompt's. P projects onto
the null space of the second moment of what must stay: the directions orthogonal to all c_0 in which its
eigenvalues lie below ``threshold`` mean eigenvalues (the lowest one, where none does). With N (D, d) an
orthonormal basis of it and g = c_e N the target in it,

    D = W (c_a - c_e)^T (g g^T + lam I)^-1 g N^T

What must stay is what `nullspace` keeps: the null prompt, the neighbours, and random words. It is enriched by
random perturbations c + n of each state, |n| = ``perturbation`` |c|, in the directions that W reads least. A
second moment needs no sample of them: in expectation they add perturbation^2 / 2 of its trace, spread over
those directions.

Facts of the paper: the null-space restriction by SVD and threshold, equality for the null prompt, a retained
set enriched by random perturbation, the last token of the name or all tokens. Ours: everything that these
leave open, that is the lam, where the perturbations point, the words as retained prompts, keys beside the
values that it changes by default, and an adapter that holds the change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from fade.config.section import Weight
from fade.erasers import nullspace, uce
from fade.erasers.base import KEYS_VALUES, Eraser, ErasureBatch, Extras, Preparation, register
from fade.errors import TrainingError
from fade.models.capabilities import NULL_PROMPT

if TYPE_CHECKING:
    from torch import Tensor

WEAKEST = 0.1
"""Share of a weight's directions, those that it reads least, in which retained states are perturbed."""
EXACT = 1e-6
"""Singular values of the null prompt's states below this share of the largest are rounding."""


class Config(uce.Config):
    """SPEED's knobs."""

    words: Annotated[int, Field(ge=0)] = 400
    """How many words of the tokenizer's vocabulary, and as many pairs of them, are kept."""
    threshold: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.03
    """Below which eigenvalue of the kept moment, in shares of the mean one, a direction is free. On
    the first miniature a third of its text space was."""
    perturbation: Weight = 0.1
    """Length of the perturbations of what is kept, in shares of a token state's; 0: none."""


def prepare(target: Preparation, config: Config, *, last: bool) -> Extras:
    """`nullspace`'s ``language``; ``edited`` and ``goal``: the token states (1, N, D) of the target and of
    what takes its place, at all positions or, with ``last``, of the name's last token."""
    sample = nullspace.prepare(target, nullspace.Config(words=config.words))
    if last:
        edited, goal = uce.name_pairs(target, to_end=False)
    else:
        edited, goal = target.conditioning.tokens[0], target.replaced.tokens[0]
    pairs = {"edited": edited, "goal": goal}
    chosen = {name: replace(target.null, tokens=states[None]) for name, states in pairs.items()}
    return lambda generator: {**sample(generator), **chosen}


def speed(
    weights: Mapping[str, Tensor], batches: Sequence[ErasureBatch], config: Config
) -> dict[str, Tensor]:
    """The change (out, in) of each weight (out, in), in the weights' dtype; solved in float64. Raises
    TrainingError as `free_directions`."""
    import torch

    e, a = (
        torch.cat([batch.extra[name].tokens[0] for batch in batches]).double() for name in ("edited", "goal")
    )  # (N, D)
    moment = torch.stack([nullspace.kept_moment(batch) for batch in batches]).mean(0)
    null = torch.cat([batch.null.tokens[0] for batch in batches[:1]]).double()  # (T, D)
    eye = config.identity_weight * torch.eye(len(e), dtype=e.dtype, device=e.device)
    changes = {}
    for name, weight in weights.items():
        wide = weight.double()
        free = free_directions(moment, wide, null, config)  # (D, d)
        reach = e @ free  # (N, d)
        gain = torch.linalg.solve(reach @ reach.T + eye, reach) @ free.T  # (N, D)
        changes[name] = (wide @ (a - e).T @ gain).to(weight.dtype)
    return changes


def free_directions(moment: Tensor, weight: Tensor, null: Tensor, config: Config) -> Tensor:
    """Orthonormal columns (D, d), orthogonal to the null prompt's states (T, D): where the perturbed kept
    ``moment`` (D, D) is below the threshold, or the one where it is least. ``weight``: (out, D). Raises
    TrainingError when the null prompt's states fill the text space."""
    import torch

    size = len(moment)
    _, lengths, rows = torch.linalg.svd(null)  # rows (D, D): the first are the null prompt's
    outside = rows[int((lengths > EXACT * lengths.max()).sum()) :].T
    if not outside.shape[1]:
        what = f"the null prompt's states fill all {size} dimensions of the text space."
        raise TrainingError(what, stage="train", action="name another method, nullspace say.")
    _, read = torch.linalg.eigh(weight.T @ weight)  # ascending
    weak = read[:, : max(1, round(WEAKEST * size))]
    spread = config.perturbation**2 / 2 * moment.trace() / weak.shape[1]
    values, vectors = torch.linalg.eigh(outside.T @ (moment + spread * weak @ weak.T) @ outside)
    n = int((values < config.threshold * moment.trace() / size).sum())
    free: Tensor = outside @ vectors[:, : max(1, n)]
    return free


_SOURCE = (
    "arXiv 2503.07392; the retained prompts (nullspace's), the weight of the change, the perturbations' "
    "directions, keys beside values, and an adapter that holds the change, are ours"
)
_TOKENS = {"all-tokens": (False, 77), "last-token": (True, 16)}
for _variant, (_last, _rank) in _TOKENS.items():
    register(
        Eraser(
            "speed",
            _variant,
            _SOURCE,
            Config,
            solve=speed,
            prepare=partial(prepare, last=_last),
            requires=(NULL_PROMPT,),
            requires_neighbours=True,
            requires_heldout=True,
            accepts_replacement=True,
            settings=(KEYS_VALUES, f"mesh.rank={_rank}", f"mesh.alpha={_rank}"),
        )
    )
