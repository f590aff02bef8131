"""The registered metrics (`fade.evaluation.metrics`) of a cell: what follows from its record, and the number
at a metric's place. A number that no cell has is left out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from fade.evaluation.err import balances
from fade.evaluation.metrics import Metric, at_path, known_metrics, report_rows


def compared_metrics() -> list[Metric]:
    """The metrics that the benchmark compares, costs left out."""
    return [one for one in known_metrics() if one.path and one.role != "cost"]


def derived(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record with what follows from it: ``kept``, ``retained`` (% of the original), ``ssim`` by role, and
    the balances, of which earlier versions had one."""
    numbers = dict(record["numbers"])
    both = {name: float(value) for name, value in balances(numbers["metrics"]).items()}
    known_balances = {name: value for name, value in both.items() if not math.isnan(value)}
    numbers["metrics"] = {**known_balances, **numbers["metrics"]}
    names = [one.name for one, _ in report_rows(first_table=True) if one.role == "retention"]
    shares = {name: share(numbers["metrics"].get(name), numbers["base_metrics"].get(name)) for name in names}
    known = [min(value, 100.0) for value in shares.values() if value is not None]
    rows: dict[str, list[float]] = {}
    for row in numbers.get("per_concept", []):
        rows.setdefault(row["role"], []).append(row["ssim"])
    ssim = {role: float(np.mean(values)) for role, values in rows.items()}
    retained = float(np.mean(known)) if known else None
    return {**record, "numbers": numbers, "kept": shares, "retained": retained, "ssim": ssim}


def share(after: float | None, before: float | None) -> float | None:
    """Percent of the original's accuracy; None where that is 0 or nothing was measured."""
    return 100.0 * after / before if after is not None and before else None


def value_of(record: Mapping[str, Any], path: str) -> float | None:
    """The number at a dotted path; None when it is not there."""
    node = at_path(record, path)
    return float(node) if isinstance(node, int | float) and not isinstance(node, bool) else None
