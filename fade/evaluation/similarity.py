"""How alike pictures are: to the original's of the same seed (SSIM), as a set (Fréchet), to their prompt
(CLIP score).

LPIPS is left out on purpose: its package (0.1.4) imports torchvision, which has no place beside our torch,
its heads come as pickles and its backbone from the network, and a network of our own under converted weights
could not be checked against the published numbers here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fade.errors import EvaluationError

WINDOW = 7  # pixels, the uniform window of Wang et al. (2004) as scikit-image uses it
AT_ONCE = 1 << 24
"""Numbers of a side that are compared at once, about ten times as many float64 being alive (1.3 GB)."""


def ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Mean structural similarity (n,) of picture pairs uint8 (n, H, W, 3), over channels; 1 = equal.

    Wang et al. 2004 with a uniform 7x7 window, sample covariance, K1 = 0.01, K2 = 0.03; scikit-image's
    definition. As a measure of an eraser's side effects the idea is All but One's."""
    n = max(1, AT_ONCE // math.prod(a.shape[1:]))
    return np.concatenate([_ssim(a[i : i + n], b[i : i + n]) for i in range(0, max(len(a), 1), n)])


def _ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    x, y = (torch.as_tensor(p).permute(0, 3, 1, 2).double() for p in (a, b))
    n = WINDOW * WINDOW
    unbias = n / (n - 1)

    def local(z: Tensor) -> Tensor:
        return F.avg_pool2d(z, WINDOW, stride=1)

    mx, my = local(x), local(y)
    vx, vy = unbias * (local(x * x) - mx * mx), unbias * (local(y * y) - my * my)
    cov = unbias * (local(x * y) - mx * my)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    value = ((2 * mx * my + c1) * (2 * cov + c2)) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    means: np.ndarray = value.mean(dim=(1, 2, 3)).numpy()
    return means


def clip_scores(images: Tensor, texts: Tensor) -> np.ndarray:
    """Score (n,) of unit features (n, D) of pictures and of their texts: 100 max(0, cos(image, text)).

    Hessel et al.'s (2021) with 100 in place of their 2.5, as the libraries report it. The embedded CLIP
    shares its text tower with the base, so the score says what a model kept, not what it draws: compare it
    between two models on the same prompts."""
    scores: np.ndarray = (100 * (images * texts).sum(-1)).clamp(min=0).numpy()
    return scores


def mean_clip_score(images: Sequence[Tensor], texts: Tensor) -> float:
    """Mean score of pictures by their unit features, (n, D) for each of the texts' (T, D); at least one."""
    counts = torch.tensor([len(one) for one in images])
    return float(clip_scores(torch.cat(list(images)), texts.repeat_interleave(counts, 0)).mean())


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """||m_1 - m_2||^2 + tr(S_1 + S_2 - 2 (S_1^(1/2) S_2 S_1^(1/2))^(1/2)) of Gaussians fitted to features (n,
    D) and (m, D).

    FID's formula (Heusel et al. 2017) in the judge's features, not Inception's: compare it only under the
    same judge and the same n. Raises EvaluationError for fewer than two rows, or other widths."""
    if min(len(a), len(b)) < 2 or a.shape[1:] != b.shape[1:]:
        given = f"given {tuple(a.shape)} and {tuple(b.shape)}"
        what = f"a Fréchet distance needs two pictures a side and equal features; {given}."
        action = "raise evaluate.images_per_concept or evaluate.rest_concepts."
        raise EvaluationError(what, stage="evaluate", action=action)
    (m1, s1), (m2, s2) = _gaussian(a), _gaussian(b)
    # With S = R R^T the trace of the root is the sum of the singular values of R_1^T R_2: nothing under a
    # root can turn negative.
    common = torch.linalg.svdvals(_root(s1).T @ _root(s2)).sum()
    return max(0.0, float((m1 - m2).square().sum() + s1.trace() + s2.trace() - 2 * common))


def frechet_summary(base: Tensor, erased: Tensor) -> dict[str, Any]:
    """{rest, crossed, floor, n, n_half} of features (concepts, n, D) at the same seeds; NaN where there are
    too few pictures.

    ``rest`` compares all pictures. The distance is biased upwards for few (the fitted covariances differ by
    chance), so ``floor`` is that between two halves of the ORIGINAL's own pictures, the even and the odd
    seeds of every concept, and ``crossed`` that of a half of the original's to the other half of the erased
    model's: the same n, and other seeds, as the floor's."""
    size, width = base.shape[1] // 2, base.shape[-1]
    (base_even, base_odd), (erased_even, erased_odd) = (
        [x[:, i::2][:, :size].reshape(-1, width) for i in (0, 1)] for x in (base, erased)
    )

    def distance(*pairs: tuple[Tensor, Tensor]) -> float:
        enough = len(pairs[0][0]) >= 2
        return sum(frechet_distance(*pair) for pair in pairs) / len(pairs) if enough else float("nan")

    return {
        "rest": distance((base.reshape(-1, width), erased.reshape(-1, width))),
        "crossed": distance((base_even, erased_odd), (base_odd, erased_even)),
        "floor": distance((base_even, base_odd)),
        "n": base.shape[0] * base.shape[1],
        "n_half": len(base_even),
    }


def _gaussian(x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.double()
    return x.mean(0), torch.cov(x.T).reshape(x.shape[1], x.shape[1])


def _root(s: Tensor) -> Tensor:
    """R with R R^T = S, of a symmetric, positive semi-definite S (D, D)."""
    # torch's, whose threads are counted; numpy's library may start one a core of the machine
    values, vectors = torch.linalg.eigh(s)
    root: Tensor = vectors * values.clamp(min=0).sqrt()
    return root
