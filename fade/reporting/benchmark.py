"""The benchmark's page: ONE HTML file of tables, figures and small pictures; no script, no network. Shows
numbers, computes none."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fade.benchmark import summary as summaries
from fade.benchmark import tables
from fade.benchmark.compare import efficient
from fade.evaluation.metrics import metric
from fade.reporting.frontier import frontier_svg
from fade.reporting.page import data_uri, templates
from fade.reporting.theme import DARK, LIGHT

_ERASED, _RETAINED = map(metric, summaries.AXES)
AXES = (f"{_ERASED.title}, % ({_ERASED.name})", f"{_RETAINED.title}, % of the original")
"""What the figures write on their axes."""


def figure(summary: Mapping[str, Any]) -> str:
    """The frontier of the reported targets, SVG."""
    found = summary["frontier"]
    title = "Erasure against retention, mean over targets and seeds"
    return frontier_svg(
        found["points"], {"all": found["efficient"]}, title=title, marked=summary["reference"], axes=AXES
    )


def trade_offs(summary: Mapping[str, Any]) -> list[str]:
    """One SVG a tuned method: what its settings traded on the tuning targets, its own frontier a line, the
    chosen one marked."""
    out = []
    for label, found in summary["tuning"]["methods"].items():
        tried = {
            " ".join(t["overrides"]): (t["erased"], t["retained"])
            for t in found["trials"]
            if None not in (t["erased"], t["retained"])
        }
        if tried:
            title, chosen = f"{label}: its settings on the tuning targets", " ".join(found["overrides"])
            out.append(frontier_svg(tried, {"own": efficient(tried)}, title=title, marked=chosen, axes=AXES))
    return out


def render_benchmark(summary: Mapping[str, Any], grids: Sequence[Mapping[str, Any]]) -> str:
    """The page. grids: see `grids_of`. Same input, same bytes."""
    from markupsafe import Markup

    any_cell = bool(summary["arms"])
    return (
        templates()
        .get_template("benchmark.html")
        .render(
            summary=summary,
            light=LIGHT,
            dark=DARK,
            first=tables.main_table(summary) if any_cell else None,
            rest=[tables.significance(summary), tables.cost_table(summary), tables.settings_table(summary)]
            if any_cell
            else [],
            details=tables.metric_tables(summary) if any_cell else [],
            by_target=[tables.target_table(summary, m["name"]) for m in summary["metrics"] if m["main"]]
            if any_cell
            else [],
            figure=Markup(figure(summary)) if any_cell else "",
            trade_offs=[Markup(svg) for svg in trade_offs(summary)],
            grids=grids,
        )
    )


def grids_of(
    read: Callable[[str, str], bytes | None], records: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The kept pictures by target: ``target``, ``rows`` (concepts), ``figures`` (name, data: URI), the
    original first.

    read: (target, file name) -> the PNG, None where there is none. A picture that was changed since is left
    out."""
    out: dict[str, dict[str, Any]] = {}
    for record in records:
        if not (grid := record.get("grid")):
            continue
        target = record["inputs"]["target"]
        page = out.setdefault(target, {"target": target, "rows": grid["rows"], "figures": []})
        if not page["figures"] and (original := _picture(read, target, grid["original"])):
            page["figures"].append({"name": "original", "uri": original})
        shown = {
            figure["name"] for figure in page["figures"]
        }  # of a condition one seed: another may have been the first one once
        if record["inputs"]["arm"] not in shown and (erased := _picture(read, target, grid["erased"])):
            page["figures"].append({"name": record["inputs"]["arm"], "uri": erased})
    return list(out.values())


def _picture(read: Callable[[str, str], bytes | None], target: str, kept: Mapping[str, str]) -> str | None:
    body = read(target, kept["file"]) or b""
    return data_uri(body) if hashlib.sha256(body).hexdigest() == kept["sha256"] else None
