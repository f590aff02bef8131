"""What the report's page and the card say of a run: its verdict and its table of metrics. Shows numbers,
computes none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fade.evaluation.metrics import at_path, metric, report_rows

ERASED = 97.0
"""A_er (%) from which the verdict says erased."""
RETENTION = {
    "A_adj": ("neighbours", 0.96),
    "A_heldout": ("held-out neighbours", 0.96),
    "A_rest": ("unrelated concepts", 0.98),
}
"""Metric -> what the verdict calls its concepts, and the share of the base's own accuracy from which it says
kept."""


@dataclass(frozen=True)
class Finding:
    """One sentence of the verdict."""

    holds: bool
    text: str


def findings(result: Mapping[str, Any]) -> list[Finding]:
    """Erased or not, and each group of bystanders kept or not, with the numbers that say so."""
    metrics, base, n = result["metrics"], result["base_metrics"], result["n"]
    erased = metrics["A_er"] >= ERASED
    verb = "is erased" if erased else "is not erased"
    share = f"{number(metrics['A_er'])} % of {n['target']} pictures are judged something else"
    out = [Finding(erased, f"“{result['target']}” {verb}: {share}")]
    for key, (concepts, least) in RETENTION.items():
        if given(metrics.get(key)) and given(base.get(key)):
            holds, row = metrics[key] >= least * base[key], metric(key).row
            before = f"(original {number(base[key])} %, n {n.get(row.group, '?') if row else '?'})"
            state = "kept" if holds else "damaged"
            out.append(Finding(holds, f"{concepts} {state}: {number(metrics[key])} % {before}"))
    return out


def headline(result: Mapping[str, Any]) -> tuple[str, str]:
    """("good" | "mixed" | "bad", one line)."""
    erased, *retained = findings(result)
    if not erased.holds:
        return "bad", f"“{result['target']}” is not erased."
    if all(f.holds for f in retained):
        return "good", f"“{result['target']}” is erased, and its neighbours survived."
    return "mixed", f"“{result['target']}” is erased, but not without damage."


def metric_rows(result: Mapping[str, Any], *, first_table: bool = True) -> list[dict[str, Any]]:
    """One mapping a metric, values None where not given: the evaluation's own ``metrics``, or what else was
    measured (older results lack some of it, and have no such row)."""
    rows: list[dict[str, Any]] = []
    for one, row in report_rows(first_table=first_table):
        value = at_path(result, row.value)
        if first_table or given(value):
            rows.append({
                "key": one.name, "base_key": row.base_name, "role": row.group, "digits": one.digits,
                "title": row.title or one.title, "column": row.column or one.title,
                "meaning": (row.meaning or one.meaning).format_map(result),
                "n": at_path(result, row.n), "erased": value, "interval": _interval(result, row.value),
                "base": at_path(result, row.base), "base_interval": _interval(result, row.base),
            })  # fmt: skip
    return rows


def _interval(result: Mapping[str, Any], place: str) -> Any:
    """A number's interval: that of ``base_metrics.A_tar`` is ``base_intervals.A_tar``."""
    return at_path(result, place.replace("metrics.", "intervals.")) if "metrics." in place else None


def number(value: float | None, digits: int = 1) -> str:
    """A number with its digits; an em dash when it was not measured."""
    return f"{value:.{digits}f}" if given(value) else "—"


def given(value: Any) -> bool:
    """Whether it is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
