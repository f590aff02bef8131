"""UCE, Unified Concept Editing (Gandikota et al. 2024, arXiv 2308.14761): keys and values of the
cross-attention in closed form.

    W* = (lam W + sum W c_a c_e^T + sum W c_p c_p^T) (lam I + sum c_e c_e^T + sum c_p c_p^T)^-1

c_e are the target prompt's token states, c_a those of what takes its place (the null prompt without a
replacement), c_p those of what must stay. W* - W = [sum W (c_a - c_e) c_e^T] M^-1 with M the second factor;
its rank is at most the number of tokens, so an adapter of that rank holds it exactly.

Variants say which token states. ``keys-values``, ours: all positions of the target, position by position;
what must stay is empty unless method.anchors gives it the neighbours. ``names-2023``, as the authors' code of
that year: from the name's last token to the end; the null prompt always stays, with method.anchors the
neighbours too. ``names-2025``, as their later code: the name's last token alone, lam 0.5, and the neighbours
always stay, as concepts to preserve do in all its examples. Ours in both: the states of the null prompt
are those at the same places, those of a replacement begin at its own name's last token, and the prompt is
the project's template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from fade.config.method import MethodOptions
from fade.erasers.base import KEYS_VALUES, Eraser, ErasureBatch, Extras, Preparation, register
from fade.models.capabilities import NULL_PROMPT

if TYPE_CHECKING:
    from torch import Tensor


class Config(MethodOptions):
    """UCE's knobs."""

    identity_weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.5
    """lam: how strongly every weight is kept as it was."""


def uce(weights: Mapping[str, Tensor], batches: Sequence[ErasureBatch], config: Config) -> dict[str, Tensor]:
    """W* - W (out, in) of each weight (out, in), in the weights' dtype; solved in float64."""
    import torch

    e = torch.cat([batch.target.tokens[0] for batch in batches]).double()  # (G T, D)
    a = torch.cat([batch.replacement.tokens[0] for batch in batches]).double()
    neighbours = (
        torch.cat([batch.neighbours.tokens for batch in batches]).double().flatten(0, 1)
    )  # (G K T, D)
    kept = neighbours if config.anchors == "neighbourhood" else e[:0]
    return _changes(weights, e, a, kept, config)


def of_names(
    weights: Mapping[str, Tensor], batches: Sequence[ErasureBatch], config: Config
) -> dict[str, Tensor]:
    """As `uce`, on the token states that `prepare` chose."""
    import torch

    e, a, kept = (
        torch.cat([batch.extra[name].tokens[0] for batch in batches]).double()
        for name in ("edited", "goal", "preserved")
    )
    return _changes(weights, e, a, kept, config)


def _changes(
    weights: Mapping[str, Tensor], e: Tensor, a: Tensor, kept: Tensor, config: Config
) -> dict[str, Tensor]:
    """Of token states (N, D) that are edited, their goals (N, D), and those that stay (M, D)."""
    import torch

    size = e.shape[-1]
    m = config.identity_weight * torch.eye(size, dtype=e.dtype, device=e.device) + e.T @ e + kept.T @ kept
    change = torch.linalg.solve(m, e.T @ (a - e)).T  # (D, D): sum (c_a - c_e) c_e^T M^-1, M symmetric
    return {name: (weight.double() @ change).to(weight.dtype) for name, weight in weights.items()}


def prepare(target: Preparation, config: Config, *, to_end: bool) -> Extras:
    """``edited``, ``goal`` and ``preserved``: the token states (1, N, D) of one prompt each."""
    import torch

    edited, goal = name_pairs(target, to_end=to_end)
    preserved = [target.null.tokens[0]] if to_end else [edited[:0]]
    if not to_end or config.anchors == "neighbourhood":
        for i, name in enumerate(target.names):
            preserved += name_states(target, name, target.neighbours.tokens[i], to_end=to_end)
    chosen = {"edited": edited, "goal": goal, "preserved": torch.cat(preserved)}
    extra = {name: replace(target.null, tokens=states[None]) for name, states in chosen.items()}
    return lambda _: extra


def name_states(target: Preparation, name: str, tokens: Tensor, *, to_end: bool) -> list[Tensor]:
    """Of each text encoder the states (n, D) of ``name`` in its prompt's ``tokens`` (T, D): its last token's,
    and with ``to_end`` all that follow."""
    spans = target.model.name_to_end(target.prompt, name)
    return [tokens[span] if to_end else tokens[span.start : span.start + 1] for span in spans]


def name_pairs(target: Preparation, *, to_end: bool) -> tuple[Tensor, Tensor]:
    """The target's states (N, D), see `name_states`, and those (N, D) that take their place: of the null
    prompt at the same positions, or of the replacement from its name's last token on."""
    import torch

    name = target.replacement or target.target
    old = name_states(target, target.target, target.conditioning.tokens[0], to_end=to_end)
    new = name_states(target, name, target.replaced.tokens[0], to_end=to_end)
    lengths = [min(len(e), len(a)) for e, a in zip(old, new, strict=True)]
    e, a = (torch.cat([s[:n] for s, n in zip(some, lengths, strict=True)]) for some in (old, new))
    return e, a


register(
    Eraser(
        "uce",
        "keys-values",
        "arXiv 2308.14761; all token positions, and an adapter that holds the change, are ours",
        Config,
        solve=uce,
        requires=(NULL_PROMPT,),
        settings=(KEYS_VALUES, "mesh.rank=77", "mesh.alpha=77"),
        accepts_replacement=True,
        accepts_anchors=True,
        seedless=True,
    )
)
register(
    Eraser(
        "uce",
        "names-2023",
        "arXiv 2308.14761, its code of 2023: from the name's last token to the end, '' kept; the template, "
        "the null prompt's places, and an adapter that holds the change, are ours",
        Config,
        solve=of_names,
        prepare=partial(prepare, to_end=True),
        requires=(NULL_PROMPT,),
        settings=(KEYS_VALUES, "mesh.rank=77", "mesh.alpha=77"),
        accepts_replacement=True,
        accepts_anchors=True,
        seedless=True,
    )
)
register(
    Eraser(
        "uce",
        "names-2025",
        "arXiv 2308.14761, its code of 2025: the name's last token alone, with preserved concepts; the "
        "template, the null prompt's place, and an adapter that holds the change, are ours",
        Config,
        solve=of_names,
        prepare=partial(prepare, to_end=False),
        requires=(NULL_PROMPT,),
        requires_neighbours=True,
        recipe=("method.identity_weight=0.5",),
        settings=(KEYS_VALUES, "mesh.rank=16", "mesh.alpha=16"),
        accepts_replacement=True,
        seedless=True,
    )
)
