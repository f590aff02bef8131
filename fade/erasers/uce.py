"""UCE, Unified Concept Editing (Gandikota et al. 2024, arXiv 2308.14761): keys and values of the
cross-attention in closed form.

    W* = (lam W + sum W c_a c_e^T + sum W c_p c_p^T) (lam I + sum c_e c_e^T + sum c_p c_p^T)^-1

c_e are the target prompt's token states, c_a those of what takes its place (the null prompt without a
replacement), c_p those of what must stay. W* - W = [sum W (c_a - c_e) c_e^T] M^-1 with M the second factor;
its rank is at most the number of tokens, so an adapter of that rank holds it exactly. Ours: all token
positions count, and the list of what must stay is empty unless method.anchors gives it the neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from fade.config.method import MethodOptions
from fade.erasers.base import KEYS_VALUES, NULL_PROMPT, Eraser, ErasureBatch, register

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
    size = e.shape[-1]
    m = config.identity_weight * torch.eye(size, dtype=e.dtype, device=e.device) + e.T @ e + kept.T @ kept
    change = torch.linalg.solve(m, e.T @ (a - e)).T  # (D, D): sum (c_a - c_e) c_e^T M^-1, M symmetric
    return {name: (weight.double() @ change).to(weight.dtype) for name, weight in weights.items()}


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
    )
)
