"""How conditions compare: spread, the paired bootstrap of the difference between two, and which are
Pareto-efficient. Ours.

Two levels: targets are sampled with replacement, then seeds within each of them. Both conditions are sampled
together, so what makes a target hard for all of them cancels out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from fade.utils.seeds import named_seed

Values = Mapping[tuple[str, int], float]
"""(target, seed) -> a number."""
LEVEL = 0.95
LEAST = 5
"""Targets below which no interval and no p-value is given: a few targets resampled say nothing of others."""


@dataclass(frozen=True)
class Spread:
    """Of one number of one condition. sd: over cells; sd_targets: of the targets' means; sd_seeds: within a
    target, pooled. None: too few."""

    mean: float
    sd: float | None
    sd_targets: float | None
    sd_seeds: float | None
    n: int
    lo: float | None
    hi: float | None


@dataclass(frozen=True)
class Comparison:
    """A minus B over the cells that both have; lo, hi, p None with fewer than LEAST targets."""

    difference: float
    lo: float | None
    hi: float | None
    p: float | None
    n: int
    targets: int


def spread(values: Values, resamples: int) -> Spread:
    """Mean, standard deviations, and the mean's 95 % interval by the two-level bootstrap."""
    table = _table(values)
    means = np.nanmean(table, axis=1)
    mean = float(means.mean())
    within = [row[~np.isnan(row)] for row in table]
    free = sum(len(row) - 1 for row in within)
    seeds = math.sqrt(sum(float(((row - row.mean()) ** 2).sum()) for row in within) / free) if free else None
    lo, hi, _ = _bootstrap(table, mean, resamples)
    return Spread(mean, _sd(np.array(list(values.values()))), _sd(means), seeds, len(values), lo, hi)


def _sd(values: np.ndarray) -> float | None:
    return float(values.std(ddof=1)) if len(values) > 1 else None


def compare(a: Values, b: Values, resamples: int) -> Comparison | None:
    """A - B, paired by target and seed; None when no cell is in both. p is two-sided."""
    both = {key: a[key] - b[key] for key in a if key in b}
    if not both:
        return None
    table = _table(both)
    difference = float(np.nanmean(table, axis=1).mean())
    lo, hi, p = _bootstrap(table, difference, resamples)
    return Comparison(difference, lo, hi, p, len(both), len(table))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """p-values adjusted for testing many conditions at once (Holm's step-down)."""
    out, floor = {}, 0.0
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        floor = max(floor, min(1.0, p * (len(p_values) - rank)))
        out[name] = floor
    return out


def efficient(points: Mapping[str, Sequence[float]]) -> list[str]:
    """Names of the Pareto-efficient points (erased, retained), by erased.

    A point is efficient when no other is at least as good in both and better in one; equal points are
    efficient together."""

    rows = {name: tuple(point) for name, point in points.items()}

    def beaten(point: tuple[float, ...]) -> bool:
        return any(q != point and all(b >= a for a, b in zip(point, q, strict=True)) for q in rows.values())

    return sorted((name for name, point in rows.items() if not beaten(point)), key=rows.__getitem__)


def _table(values: Values) -> np.ndarray:
    """(T, S) by target and seed, NaN where a cell is missing."""
    targets, seeds = list(dict.fromkeys(t for t, _ in values)), list(dict.fromkeys(s for _, s in values))
    table = np.full((len(targets), len(seeds)), np.nan)
    for (target, seed), value in values.items():
        table[targets.index(target), seeds.index(seed)] = value
    return table


def _bootstrap(
    table: np.ndarray, mean: float, resamples: int
) -> tuple[float | None, float | None, float | None]:
    """95 % interval of the mean over targets (T, S), and the two-sided p of its being 0; one seed for all."""
    n = len(table)
    if n < LEAST:
        return None, None, None
    rng = np.random.default_rng(named_seed("bench", "bootstrap"))
    # Each row's numbers moved to its front (0 behind them), and how many there are.
    order = np.argsort(np.isnan(table), axis=1, kind="stable")
    packed, counts = np.nan_to_num(np.take_along_axis(table, order, axis=1)), (~np.isnan(table)).sum(1)
    targets = rng.integers(0, n, (resamples, n))  # (R, T)
    available = counts[targets][..., None]  # (R, T, 1)
    seeds = (rng.random((resamples, *table.shape)) * available).astype(int)  # (R, T, S)
    within = np.arange(table.shape[1]) < available
    values = np.where(within, packed[targets[..., None], seeds], 0.0)
    means = (values.sum(-1) / counts[targets]).mean(-1)  # (R,)
    moved = (means - mean) * _widening(n)
    tail = 100 * (1 - LEVEL) / 2
    lo, hi = (mean + float(bound) for bound in np.percentile(moved, (tail, 100 - tail)))
    beyond = min(int((mean + moved <= 0).sum()), int((mean + moved >= 0).sum()))
    return lo, hi, min(1.0, 2 * (beyond + 1) / (resamples + 1))


def _widening(n: int) -> float:
    """Factor that widens the bootstrap of n targets to Student's interval of n means.

    sqrt(n / (n - 1)) for the variance that n draws with replacement lack, and t / z for its being estimated
    (t by its series in 1/df)."""
    z, df = NormalDist().inv_cdf((1 + LEVEL) / 2), n - 1
    t = z + (z**3 + z) / (4 * df) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * df**2)
    t += (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * df**3)
    return math.sqrt(n / df) * t / z
