"""The report as ONE HTML file: pictures as data: URIs, no script, no network, light and dark. Shows numbers,
computes none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fade.evaluation.metrics import at_path, metric, report_rows
from fade.reporting.charts import charts
from fade.reporting.graph import HIGH, WIDE, lineage_graph
from fade.reporting.image_grid import GridRow, image_grid, png
from fade.reporting.page import data_uri, templates
from fade.reporting.report_data import ROLES, Pictures, Report, members
from fade.reporting.theme import DARK, LIGHT

ERASED = 97.0
"""A_er (%) from which the verdict says erased."""
KEPT = {
    "A_adj": ("neighbours", 0.96),
    "A_heldout": ("held-out neighbours", 0.96),
    "A_rest": ("unrelated concepts", 0.98),
}
"""Metric -> what the verdict calls its concepts, and the share of the base's own accuracy from which it says
kept."""
THUMBNAIL = 128
"""Longest side of a picture in the page, pixels; smaller ones stay as they are."""
ROWS_NAMED = 5
"""Failing rows that the page names; the checks' own page has all of them."""
FAILED = {"critical": "failed", "warning": "warning", "info": "note"}


@dataclass(frozen=True)
class Finding:
    """One sentence of the verdict."""

    holds: bool
    text: str


def findings(result: Mapping[str, Any]) -> list[Finding]:
    """Erased or not, and each group of bystanders kept or not, with the numbers that say so."""
    metrics, base, n, target = result["metrics"], result["base_metrics"], result["n"], result["target"]
    erased_enough = metrics["A_er"] >= ERASED
    verb = "is erased" if erased_enough else "is not erased"
    out = [
        Finding(
            erased_enough,
            f"“{target}” {verb}: {number(metrics['A_er'])} % of {n['target']} pictures are judged something "
            "else",
        )
    ]
    for key, (concepts, least) in KEPT.items():
        if not _given(metrics.get(key)) or not _given(base.get(key)):
            continue
        kept, row = metrics[key] >= least * base[key], metric(key).row
        count = n.get(row.group, "?") if row else "?"
        before = f"(original {number(base[key])} %, n {count})"
        state = "kept" if kept else "damaged"
        out.append(Finding(kept, f"{concepts} {state}: {number(metrics[key])} % {before}"))
    return out


def headline(result: Mapping[str, Any]) -> tuple[str, str]:
    """("good" | "mixed" | "bad", one line)."""
    erased, *kept = findings(result)
    if not erased.holds:
        return "bad", f"“{result['target']}” is not erased."
    if all(f.holds for f in kept):
        return "good", f"“{result['target']}” is erased, and its neighbours survived."
    return "mixed", f"“{result['target']}” is erased, but not without damage."


def metric_table(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One mapping a metric: title, meaning, role, n, base and erased values with their intervals (None where
    not given)."""
    return [
        {
            "key": one.name, "base_key": row.base_name, "role": row.group,
            "title": row.title or one.title, "meaning": row.meaning or one.meaning,
            "n": at_path(result, row.n), "erased": at_path(result, row.value),
            "interval": at_path(result, _interval(row.value)),
            "base": at_path(result, row.base), "base_interval": at_path(result, _interval(row.base)),
        }
        for one, row in report_rows(first_table=True)
    ]  # fmt: skip


def _interval(place: str) -> str:
    """The place of a number's interval: ``base_metrics.A_tar`` -> ``base_intervals.A_tar``."""
    return place.replace("metrics.", "intervals.")


def other_measures(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What else was measured, one mapping a row: key, title, meaning, n, places, base and erased (None where
    there is none).

    Older results lack some of it, and have no such row.
    """
    return [
        {
            "key": one.name, "title": row.title or one.title, "n": at_path(result, row.n),
            "places": one.digits, "meaning": (row.meaning or one.meaning).format_map(result),
            "base": at_path(result, row.base), "erased": at_path(result, row.value),
        }
        for one, row in report_rows(first_table=False) if _given(at_path(result, row.value))
    ]  # fmt: skip


def checks_of(stage: Mapping[str, Any]) -> list[dict[str, str]]:
    """The results of one checks JSON (``checks/*.json``) as rows: what was checked, how severe, its state,
    what was found."""
    rows = []
    for item in stage.get("results", []):
        severity = str(item.get("severity", "critical"))
        state = "passed" if item.get("success") else FAILED.get(severity, "failed")
        found = str(item.get("error") or item.get("observed") or "")
        if not item.get("success") and item.get("rows"):
            named = ", ".join(str(row["row"]) for row in item["rows"][:ROWS_NAMED])
            more = int(item.get("unexpected", len(item["rows"]))) - ROWS_NAMED
            found += f": {named}" + (f" and {more} more" if more > 0 else "")
        rows.append(
            {
                "title": str(item.get("title") or item["name"]),
                "severity": severity,
                "state": state,
                "found": found,
            }
        )
    return rows


def render(report: Report, drawn: Mapping[str, Any] | None = None) -> str:
    """The page. Same input, same bytes: it holds no clock of its own. ``drawn``: its pictures, see `draw`."""
    environment = templates()
    environment.filters.update(
        number=number,
        seconds=seconds,
        cosine=lambda value: f"{value:.3f}",
        drift=lambda value: f"{value:.1e}",
    )
    level, line = headline(report.result)
    return environment.get_template("report.html").render(
        report=report,
        result=report.result,
        lineage=report.lineage,
        roles=ROLES,
        light=LIGHT,
        dark=DARK,
        level=level,
        line=line,
        findings=findings(report.result),
        metrics=metric_table(report.result),
        others=other_measures(report.result),
        per_concept=sorted(report.result["per_concept"], key=lambda e: list(ROLES).index(e["role"])),
        stages=[
            {"title": s.get("title", "Checks"), "success": s.get("success"), "rows": checks_of(s)}
            for s in report.checks
        ],
        facts=lineage_facts(report.lineage),
        graph=lineage_graph(report.lineage, report.result),
        box=(WIDE, HIGH),
        **(drawn or draw(report)),
    )


def draw(report: Report) -> dict[str, Any]:
    """What the page shows beside words: pictures as data: URIs (members, rows), and the charts."""
    return {"members": _members(report), "rows": _rows(report), "charts": charts(report)}


def _members(report: Report) -> list[dict[str, Any]]:
    near = report.neighborhood
    return [
        {
            "name": name,
            "role": role,
            "cosine": None if role == "target" else near.similarities[name],
            "picture": _side_by_side(report.mined[name][None]) if name in report.mined else None,
        }
        for name, role in members(near)
    ]


def _rows(report: Report) -> list[dict[str, Any]]:
    scores = report.accuracies()
    return [
        {
            "name": row.concept, "role": row.role, "n": len(row.base), "base": _side_by_side(row.base),
            "erased": _side_by_side(row.erased), "scores": scores.get(row.concept),
        }
        for row in report.rows
    ]  # fmt: skip


def _side_by_side(pictures: Pictures) -> str:
    """Pictures (n, H, W, 3) in one transparent row, at most THUMBNAIL pixels high, as a data: URI."""
    return data_uri(png(image_grid([GridRow([pictures])], side=THUMBNAIL, enlarge=False, gap=4, paper="")))


def lineage_facts(lineage: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """The lineage as (section, [(key, value)]) for reading; the file beside the report has all of it."""
    code, where, data = lineage.get("code", {}), lineage.get("environment", {}), lineage.get("data", {})
    params, outputs = lineage.get("params", {}), lineage.get("outputs", {})
    inputs = lineage.get("inputs", {})
    dirty = {True: " with uncommitted changes", False: ", clean"}.get(code.get("dirty"), "")
    unchanged = {
        True: "yes",
        False: "NO: an input changed while the run was under way",
        None: "not hashed again",
    }
    return [
        ("In", [
            ("data md5", f"{data.get('md5')} ({len(data.get('files', {}))} files)"),
            ("base sha256", str(lineage.get("base", {}).get("sha256"))),
            ("judge sha256", str(lineage.get("judge", {}).get("sha256"))),
            ("params sha256", str(params.get("sha256"))),
            ("overrides", ", ".join(params.get("overrides", [])) or "none"),
            ("seeds", ", ".join(f"{k} {v}" for k, v in lineage.get("seeds", {}).items())),
            ("neighbourhood", str(lineage.get("neighbourhood", {}).get("cache_key"))),
            ("inputs the same after", unchanged[inputs.get("unchanged")]),
        ]),
        ("Out", [("adapter sha256", str(outputs.get("adapter_sha256")))]),
        ("Where", [
            ("code", f"{code.get('commit') or 'no commit known'}{dirty}"),
            ("python", f"{where.get('python')} on {where.get('platform')}"),
            ("device", ", ".join(str(where.get(k)) for k in ("device_name", "precision") if where.get(k))),
            ("processes", (f"{where.get('world_size')}, each with {where.get('torch_threads')} torch "
                          "thread(s)")),
            ("libraries", ", ".join(f"{k} {v}" for k, v in where.get("libraries", {}).items() if v)),
            ("flow run", str(lineage.get("orchestration", {}).get("flow_run_id") or "none")),
        ]),
    ]  # fmt: skip


def number(value: float | None) -> str:
    """A percentage with one decimal; an em dash when it was not measured."""
    return f"{value:.1f}" if _given(value) else "—"


def seconds(value: float) -> str:
    """``75.2`` -> ``"1 min 15 s"``, ``3.14`` -> ``"3.1 s"``."""
    if value < 60:
        return f"{value:.1f} s"
    whole = round(value)
    return f"{whole // 60} min {whole % 60:02d} s"


def _given(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
