"""Erasure and retention: the judge's top-1 per concept, its mean over a group of concepts, and bootstrap
intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from fade.errors import EvaluationError

if TYPE_CHECKING:
    from torch import Tensor

LEVEL = 0.95


class Judge(Protocol):
    """What gives probabilities (B, L) over its labels."""

    labels: list[str]

    def index(self, concept: str) -> int:
        """The label's position."""

    def __call__(self, pixels: np.ndarray) -> Tensor:
        """(B, L) of uint8 pictures (B, H, W, 3)."""


def probabilities(judge: Judge, pixels: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """By concept, (n, L), of as many pictures (n, H, W, 3) of each: judged together."""
    odds = judge(np.concatenate(list(pixels.values()))).numpy()
    return dict(zip(pixels, np.split(odds, len(pixels)), strict=True))


def top1(probabilities: np.ndarray, label: int) -> np.ndarray:
    """True (n,) where the label is the most probable one; probabilities (n, L)."""
    hits: np.ndarray = np.asarray(probabilities).argmax(1) == label
    return hits


def mean_accuracy(hits: Sequence[np.ndarray]) -> float:
    """Mean over concepts of the share of hits, percent; NaN for no concept. ``hits``: one boolean (n,) a
    concept."""
    return float(np.mean([100.0 * h.mean() for h in hits])) if hits else float("nan")


def bootstrap_means(hits: Sequence[np.ndarray], resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Mean accuracy (resamples,), percent, of resamplings of the pictures within every concept: the concepts
    of a group are the group, not a sample of it."""
    if not hits:
        return np.full(resamples, np.nan)
    # The number of hits among n samples with replacement from n pictures is binomial: no loop over resamples.
    shares = [rng.binomial(len(h), h.mean(), size=resamples) / len(h) for h in hits]
    means: np.ndarray = 100.0 * np.mean(shares, axis=0)
    return means


def bootstrap_interval(values: np.ndarray, resamples: int, seed: int) -> list[float]:
    """The interval of the mean of ``values`` (n,), which are resampled; NaN for none."""
    if not len(values):
        return [float("nan"), float("nan")]
    indices = np.random.default_rng(seed).integers(0, len(values), (resamples, len(values)))
    return interval(values[indices].mean(1))


def interval(values: np.ndarray, level: float = LEVEL) -> list[float]:
    """The central ``level`` interval of bootstrap values; NaN when one is."""
    tail = 100 * (1 - level) / 2
    return [float(np.percentile(values, tail)), float(np.percentile(values, 100 - tail))]


def confusion(probabilities: np.ndarray, labels: Sequence[str]) -> list[dict[str, object]]:
    """What pictures are judged to be: [{becomes, count, share}] by falling count; probabilities (n, L)."""
    if not len(probabilities):
        action = "raise evaluate.images_per_concept."
        raise EvaluationError("no pictures to judge.", stage="evaluate", action=action)
    counts = Counter(np.asarray(probabilities).argmax(1).tolist())
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [{"becomes": labels[i], "count": n, "share": 100.0 * n / len(probabilities)} for i, n in ranked]
