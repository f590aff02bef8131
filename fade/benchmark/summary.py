"""All that the benchmark's outputs say, as one JSON object: made from the kept cells alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fade.benchmark.compare import Comparison, Values, compare, efficient, holm, spread
from fade.benchmark.metrics import compared_metrics, derived, value_of
from fade.benchmark.plan import Cell, Plan, parse_condition
from fade.config import BenchConfig
from fade.evaluation.metrics import Metric, known_metrics

AXES = ("A_er", "retained")
"""The frontier's metrics."""


@dataclass(frozen=True)
class Origin:
    """Where the outputs come from."""

    command: str
    commit: str | None
    data_md5: str
    archive: str | None = None
    """The commit of the archived record, when the cells are of it; their code is that of their own
    commits."""


def summarise(
    plan: Plan,
    found: Mapping[Cell, Mapping[str, Any]],
    bench: BenchConfig,
    tuned: Mapping[str, Mapping[str, Any]],
    origin: Origin,
    failures: Mapping[Cell, str],
) -> dict[str, Any]:
    """``benchmark.json``. found: the finished cells' records; failures: what the others said, where they were
    tried."""
    records = {cell: derived(record) for cell, record in found.items()}
    reference = parse_condition(bench.reference).label
    devices = Counter(str(record["made"].get("device")) for record in found.values())
    usual = min(devices, key=lambda name: (-devices[name], name), default=None)  # of equals the first by name
    timed = {cell: record for cell, record in records.items() if str(record["made"].get("device")) == usual}
    values = {
        m.name: _by_condition(plan, timed if m.by_machine else records, m)
        for m in (*compared_metrics(), *known_metrics("cost"))
    }
    present = [metric for metric in compared_metrics() if any(values[metric.name].values())]
    costs = [metric for metric in known_metrics("cost") if any(values[metric.name].values())]
    measured = [
        condition.label
        for condition in plan.conditions
        if any(cell.condition == condition for cell in records)
    ]
    points = _points(values)
    made = [record["made"] for record in found.values()]
    return {
        "schema": 1,
        **asdict(origin),
        "code": {
            "commits": _distinct(made, "commit"),
            "torch": _distinct(made, "torch"),
            "device": _distinct(made, "device"),
        },
        "devices": dict(devices.most_common()),
        "timed_on": usual,
        "plan": {
            "arms": [condition.label for condition in plan.conditions],
            "targets": list(plan.targets),
            "seeds": list(plan.seeds),
        },
        "tuning": {
            "targets": list(bench.tuning),
            "methods": {name: tuned[name] for name in measured if name in tuned},
        },
        "cells": {
            "done": len(found),
            "of": len(plan),
            "missing": [_missing(cell, failures) for cell in plan.cells() if cell not in found],
            "keys": sorted(record["key"] for record in found.values()),
        },
        "reference": reference,
        "metrics": [metric.to_json() for metric in present],
        "costs": [metric.to_json() for metric in costs],
        "arms": {
            label: {
                "source": parse_condition(label).method.source,
                "overrides": list(tuned[label]["overrides"]) if label in tuned else None,
                "spread": {
                    m.name: asdict(spread(v, bench.resamples))
                    for m in (*present, *costs)
                    if (v := values[m.name].get(label))
                },
            }
            for label in measured
        },
        "against_reference": {
            metric.name: _against(values[metric.name], reference, bench.resamples) for metric in present
        },
        "per_target": {metric.name: _per_target(values[metric.name]) for metric in present},
        "frontier": {"axes": list(AXES), "points": points, "efficient": efficient(points)},
    }


def _by_condition(plan: Plan, records: Mapping[Cell, Mapping[str, Any]], metric: Metric) -> dict[str, Values]:
    out: dict[str, dict[tuple[str, int], float]] = {condition.label: {} for condition in plan.conditions}
    for cell, record in records.items():
        if (value := value_of(record, metric.path)) is not None:
            out[cell.condition.label][cell.target, cell.seed] = value
    return {label: values for label, values in out.items() if values}


def _points(values: Mapping[str, Mapping[str, Values]]) -> dict[str, list[float]]:
    """Condition -> its means on AXES, of the conditions that have both."""
    x, y = (values[name] for name in AXES)
    return {label: [round(spread(v[label], 1).mean, 3) for v in (x, y)] for label in x if label in y}


def _against(values: Mapping[str, Values], reference: str, resamples: int) -> dict[str, dict[str, Any]]:
    """Condition -> reference minus condition, with Holm's p over the conditions."""
    if reference not in values:
        return {}
    pairs = {
        label: compare(values[reference], v, resamples) for label, v in values.items() if label != reference
    }
    known: dict[str, Comparison] = {label: found for label, found in pairs.items() if found is not None}
    adjusted = holm({label: found.p for label, found in known.items() if found.p is not None})
    return {label: {**asdict(found), "p_holm": adjusted.get(label)} for label, found in known.items()}


def _per_target(values: Mapping[str, Values]) -> dict[str, dict[str, float]]:
    """Condition -> target -> mean over its seeds."""
    out: dict[str, dict[str, float]] = {}
    for label, numbers in values.items():
        for target in dict.fromkeys(t for t, _ in numbers):
            some = [value for (t, _), value in numbers.items() if t == target]
            out.setdefault(label, {})[target] = sum(some) / len(some)
    return out


def _missing(cell: Cell, failures: Mapping[Cell, str]) -> dict[str, Any]:
    return {
        "arm": cell.condition.label,
        "target": cell.target,
        "seed": cell.seed,
        "why": failures.get(cell, "not measured yet"),
    }


def _distinct(made: Sequence[Mapping[str, Any]], key: str) -> list[str]:
    return sorted({str(facts.get(key)) for facts in made})
