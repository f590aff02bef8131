"""All numbers of the benchmark's outputs as one JSON object: made from the kept cells alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fade.benchmark.compare import Values, compare, efficient, holm, spread
from fade.benchmark.metrics import compared_metrics, derived, value_of
from fade.benchmark.plan import Cell, Plan, parse_condition
from fade.config import BenchConfig
from fade.evaluation.metrics import Metric, known_metrics

AXES = ("A_er", "retained")
"""The frontier's metrics."""
Records = Mapping[Cell, Mapping[str, Any]]


@dataclass(frozen=True)
class Origin:
    """Where the outputs come from."""

    command: str
    commit: str | None
    data_md5: str
    archive: str | None = None
    """The commit of the archived record, when the cells are of it; their code is of their own commits."""


def summarise(
    plan: Plan,
    finished: Records,
    bench: BenchConfig,
    tuned: Mapping[str, Mapping[str, Any]],
    origin: Origin,
    failures: Mapping[Cell, str],
) -> dict[str, Any]:
    """``benchmark.json``. finished: the records of finished cells; failures: why others are missing."""
    records = {cell: derived(record) for cell, record in finished.items()}
    reference = parse_condition(bench.reference).label
    made = [record["made"] for record in finished.values()]
    devices = Counter(str(facts.get("device")) for facts in made)
    usual = min(devices, key=lambda name: (-devices[name], name), default=None)  # of equals the first by name
    timed = {cell: record for cell, record in records.items() if str(record["made"].get("device")) == usual}
    values = {
        m.name: _by_condition(plan, timed if m.by_machine else records, m)
        for m in (*compared_metrics(), *known_metrics("cost"))
    }
    present = [metric for metric in compared_metrics() if values[metric.name]]
    costs = [metric for metric in known_metrics("cost") if values[metric.name]]
    measured = [c.label for c in plan.conditions if any(cell.condition == c for cell in records)]
    points = _points(values)
    return {
        "schema": 1,
        **asdict(origin),
        "code": {
            name: sorted({str(facts.get(key)) for facts in made})
            for name, key in (("commits", "commit"), ("torch", "torch"), ("device", "device"))
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
            "done": len(finished),
            "of": len(plan),
            "missing": [_missing(cell, failures) for cell in plan.cells() if cell not in finished],
            "keys": sorted(record["key"] for record in finished.values()),
        },
        "reference": reference,
        "metrics": [metric.to_json() for metric in present],
        "costs": [metric.to_json() for metric in costs],
        "arms": {
            label: {
                "source": parse_condition(label).method.source,
                "given": parse_condition(label).given,
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
            m.name: _against(_for_every_seed(plan, values[m.name]), reference, bench.resamples)
            for m in present
        },
        "per_target": {
            m.name: {label: _per_target(v) for label, v in values[m.name].items()} for m in present
        },
        "frontier": {"axes": list(AXES), "points": points, "efficient": efficient(points)},
    }


def _by_condition(plan: Plan, records: Records, metric: Metric) -> dict[str, Values]:
    """Condition -> its numbers, of the conditions that have any."""
    out: dict[str, dict[tuple[str, int], float]] = {condition.label: {} for condition in plan.conditions}
    for cell, record in records.items():
        if (value := value_of(record, metric.path)) is not None:
            out[cell.condition.label][cell.target, cell.seed] = value
    return {label: values for label, values in out.items() if values}


def _for_every_seed(plan: Plan, values: Mapping[str, Values]) -> dict[str, Values]:
    """The numbers with which conditions are paired by seed: those of one that no seed decides are its numbers
    with each."""
    return {
        label: {(target, seed): value for (target, _), value in own.items() for seed in plan.seeds}
        if parse_condition(label).method.seedless
        else own
        for label, own in values.items()
    }


def _points(values: Mapping[str, Mapping[str, Values]]) -> dict[str, list[float]]:
    """Condition -> its means on AXES, of the conditions that have both."""
    x, y = (values[name] for name in AXES)
    return {label: [round(spread(v[label], 1).mean, 3) for v in (x, y)] for label in x if label in y}


def _against(values: Mapping[str, Values], reference: str, resamples: int) -> dict[str, dict[str, Any]]:
    """Condition -> reference minus condition, with Holm's p over the conditions."""
    if reference not in values:
        return {}
    others = {label: v for label, v in values.items() if label != reference}
    pairs = {label: compare(values[reference], v, resamples) for label, v in others.items()}
    known = {label: pair for label, pair in pairs.items() if pair is not None}
    adjusted = holm({label: pair.p for label, pair in known.items() if pair.p is not None})
    return {label: {**asdict(pair), "p_holm": adjusted.get(label)} for label, pair in known.items()}


def _per_target(values: Values) -> dict[str, float]:
    """Target -> mean over its seeds."""
    by_target: dict[str, list[float]] = {}
    for (target, _), value in values.items():
        by_target.setdefault(target, []).append(value)
    return {target: sum(some) / len(some) for target, some in by_target.items()}


def _missing(cell: Cell, failures: Mapping[Cell, str]) -> dict[str, Any]:
    why = failures.get(cell, "not measured yet")
    return {"arm": cell.condition.label, "target": cell.target, "seed": cell.seed, "why": why}
