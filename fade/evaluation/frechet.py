"""A Fréchet distance between pictures, in the features of the judge.

    d = ||m_1 - m_2||^2 + tr(S_1 + S_2 - 2 (S_1^(1/2) S_2 S_1^(1/2))^(1/2))

of Gaussians fitted to two sets of features. The formula is FID's (Heusel et al. 2017), but FID means
Inception's features: this number has the scale of one judge and may be compared only under the same judge and
the same n.

It is biased upwards for few pictures (the fitted covariances differ by chance), so a floor stands beside it:
the distance between two halves of the ORIGINAL model's own pictures. Its halves have n / 2 pictures each,
hence ``crossed``, which compares a half of the original's pictures with the other half of the erased model's:
the same n, and other seeds, as the floor's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fade.errors import EvaluationError


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Distance of two sets of features (n, D) and (m, D). Raises EvaluationError for fewer than two rows, or
    other widths."""
    if min(len(a), len(b)) < 2 or a.shape[1:] != b.shape[1:]:
        what = (
            f"a Fréchet distance needs two pictures a side and equal features; given {tuple(a.shape)} "
            f"and {tuple(b.shape)}."
        )
        raise EvaluationError(
            what, stage="evaluate", action="raise evaluate.images_per_concept or evaluate.rest_concepts."
        )
    (m1, s1), (m2, s2) = _gaussian(a), _gaussian(b)
    # With S = R R^T the trace of the root is the sum of the singular values of R_1^T R_2: nothing under a
    # root can turn negative.
    common = torch.linalg.svdvals(_root(s1).T @ _root(s2)).sum()
    return max(0.0, float((m1 - m2).square().sum() + s1.trace() + s2.trace() - 2 * common))


def frechet_summary(base: Tensor, erased: Tensor) -> dict[str, Any]:
    """{rest, crossed, floor, n, n_half} of features (concepts, n, D) at the same seeds; NaN where there are
    too few pictures.

    ``rest`` compares all pictures. The halves are the even and the odd seeds of every concept: both show the
    same concepts."""
    half = [
        x[:, i::2][:, : base.shape[1] // 2].reshape(-1, base.shape[-1])
        for x in (base, erased)
        for i in (0, 1)
    ]
    base_even, base_odd, erased_even, erased_odd = half
    whole = [x.reshape(-1, base.shape[-1]) for x in (base, erased)]
    enough = len(base_even) >= 2
    crossed = [(base_even, erased_odd), (base_odd, erased_even)]
    return {
        "rest": frechet_distance(*whole) if len(whole[0]) >= 2 else float("nan"),
        "crossed": sum(frechet_distance(*pair) for pair in crossed) / 2 if enough else float("nan"),
        "floor": frechet_distance(base_even, base_odd) if enough else float("nan"),
        "n": len(whole[0]),
        "n_half": len(base_even),
    }


def _gaussian(x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.double()
    return x.mean(0), torch.cov(x.T).reshape(x.shape[1], x.shape[1])


def _root(s: Tensor) -> Tensor:
    """R with R R^T = S, of a symmetric, positive semi-definite S (D, D)."""
    values, vectors = torch.linalg.eigh(
        s
    )  # torch's, for its threads are counted; numpy's library may start one a core of the machine
    root: Tensor = vectors * values.clamp(min=0).sqrt()
    return root
