"""Erasure against retention: which arms no other beats in both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def efficient(points: Mapping[str, Sequence[float]]) -> list[str]:
    """Names of the Pareto-efficient points (erased, retained), by erased.

    A point is efficient when no other is at least as good in both and better in one; equal points are
    efficient together."""

    def beaten(point: Sequence[float]) -> bool:
        return any(
            list(q) != list(point) and all(b >= a for a, b in zip(point, q, strict=True))
            for q in points.values()
        )

    return sorted(
        (name for name, point in points.items() if not beaten(point)), key=lambda name: tuple(points[name])
    )
