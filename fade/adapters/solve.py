"""A release in closed form: of each layer the update that is nearest to each champion's own on the states of
its target, and to none on the states of what must stay. Ours.

    min_D  sum_c mean ||(D - D_c) x_c||^2 + keep mean ||D x_keep||^2 + ridge' ||D||^2

x_c are the text states of champion c's prompts, x_keep those of what must stay, ridge' is ``ridge`` mean
eigenvalues of the kept moment. With the second moments M_c and K of both, solved in float64,

    D = sum_c D_c M_c A^-1,    A = sum_c M_c + keep K + ridge' I

so every champion keeps its up projection, and its directions d become d M_c A^-1: turned away from whatever
else has moments. D has at most the rank of the sum, whose special case A = M_c it is. Means, not sums: a
champion's weight does not depend on how many prompts name it.

Prior art: the soft form with a kept moment is UCE's (2308.14761), and MACE fuses its adapters in closed form.
Ours: updates of any method, judged one by one, on one side; on the other the moments of mined neighbours, of
other concepts, of language and of the other champions' targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fade.errors import AdapterError

Change = tuple[Tensor, Tensor]
"""up (out, r) and down (r, D), float64: the update up @ down of one layer."""
Changes = Mapping[str, Change]
"""Layer -> its change."""


def normal_matrix(moments: Sequence[Tensor], kept: Tensor, *, keep: float, ridge: float) -> Tensor:
    """A (D, D); moments: (D, D) of each champion, read one at a time; kept: K (D, D)."""
    size = len(kept)
    out = keep * kept + ridge * kept.trace() / size * torch.eye(size, dtype=kept.dtype)
    for i in range(len(moments)):
        out += moments[i]
    return out


def solve(
    changes: Sequence[Changes], moments: Sequence[Tensor], kept: Tensor, *, keep: float, ridge: float
) -> list[dict[str, Change]]:
    """Each champion's share D_c M_c A^-1 of the release, layer by layer; their sum is D.

    changes: each champion's own D_c; moments: M_c (D, D) of each, which are read twice, one at a time. Raises
    AdapterError where A has no inverse in float64 but by rounding."""
    matrix = normal_matrix(moments, kept, keep=keep, ridge=ridge)
    factor, failed = torch.linalg.cholesky_ex(matrix)
    rounding = len(matrix) * torch.finfo(matrix.dtype).eps * matrix.diagonal().max()
    if failed or not factor.diagonal().min().square() > rounding:  # nor where it is no number
        what = f"release.ridge {ridge:g} is too small: rounding alone would decide the release."
        raise AdapterError(what, stage="release", action="raise release.ridge in params.yaml.")
    out = []
    for i, change in enumerate(changes):
        moment = moments[i]
        turned = {
            name: (up, torch.cholesky_solve(moment @ down.T, factor).T) for name, (up, down) in change.items()
        }
        out.append(turned)
    return out


def total(shares: Sequence[Changes], layer: str) -> Change:
    """The sum of the shares in one layer: the factors side by side."""
    ups, downs = zip(*(share[layer] for share in shares if layer in share), strict=True)
    return torch.cat(ups, 1), torch.cat(downs)


def compressed(change: Change, *, tolerance: float, rank: int = 0) -> tuple[Change, float]:
    """The change at the smallest rank (at least 1) whose rest is no more than ``tolerance`` of its Frobenius
    norm, or at ``rank`` where that is lower (0: no limit), and the share that is left out.

    By the singular values of up @ down, from the factors alone. A singular vector's sign is free: the largest
    entry of each row of down is positive, so that the same parts give the same bytes."""
    up, down = change
    left, inner_left = torch.linalg.qr(up)
    right, inner_right = torch.linalg.qr(down.T)
    u, s, v = torch.linalg.svd(inner_left @ inner_right.T)
    rests = s.square().flip(0).cumsum(0).flip(0)  # [n]: left out at rank n
    n = max(1, int((rests > tolerance**2 * rests[0]).sum()))
    n = min(n, rank) if rank else n
    rows = v[:n] @ right.T
    largest = rows.gather(1, rows.abs().argmax(1, keepdim=True))
    sign, root = torch.where(largest < 0, -1.0, 1.0).to(rows.dtype), s[:n].sqrt()
    lost = rests[n] / rests[0] if n < len(rests) and rests[0] > 0 else torch.zeros(())
    return ((left @ u[:, :n]) * (root * sign[:, 0]), root[:, None] * sign * rows), float(lost.sqrt())
