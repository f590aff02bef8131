"""The benchmark's page: tables, figures and small pictures. Shows numbers, computes none."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fade.benchmark import summary as summaries
from fade.benchmark import tables
from fade.benchmark.compare import efficient
from fade.evaluation.metrics import metric
from fade.reporting.charts import ticks
from fade.reporting.page import data_uri, render_template
from fade.reporting.svg import Chart, dot, line, polyline, text

_ERASED, _RETAINED = map(metric, summaries.AXES)
AXES = (f"{_ERASED.title}, % ({_ERASED.name})", f"{_RETAINED.title}, % of the original")
"""What the figures write on their axes."""
_LEFT, _TOP, _SIDE, _WIDTH = 58, 40, 340, 760
"""Pixels: a figure's plot, and the width of its sheet."""


def figure(summary: Mapping[str, Any]) -> str:
    """The frontier of the reported targets, SVG."""
    frontier = summary["frontier"]
    title = "Erasure against retention, mean over targets and seeds"
    return _frontier(frontier["points"], frontier["efficient"], title, summary["reference"])


def trade_offs(summary: Mapping[str, Any]) -> list[str]:
    """One SVG a tuned method: what its settings traded on the tuning targets, its own frontier a line, the
    chosen one marked."""
    figures = []
    for label, tuned in summary["tuning"]["methods"].items():
        tried = {
            " ".join(t["overrides"]): (t["erased"], t["retained"])
            for t in tuned["trials"]
            if None not in (t["erased"], t["retained"])
        }
        if tried:
            title = f"{label}: its settings on the tuning targets"
            figures.append(_frontier(tried, efficient(tried), title, " ".join(tuned["overrides"])))
    return figures


def _frontier(points: Mapping[str, Sequence[float]], joined: Sequence[str], title: str, marked: str) -> str:
    """Erasure against retention, percent, as one SVG: a numbered point a name, a line through ``joined``, and
    one point ``marked``."""
    low = [_floor([point[axis] for point in points.values()]) for axis in (0, 1)]
    right, bottom = _LEFT + _SIDE, _TOP + _SIDE

    def x_of(value: float) -> float:
        return float(np.interp(value, (low[0], 100), (_LEFT, right)))

    def y_of(value: float) -> float:
        return float(np.interp(value, (low[1], 100), (bottom, _TOP)))

    body = [text(_LEFT, 22, title, "title")]
    for value in ticks(low[0], 100, 6):
        x = x_of(value)
        body += [line(x, _TOP, x, bottom), text(x, bottom + 15, f"{value:g}", "small middle")]
    for value in ticks(low[1], 100, 6):
        y = y_of(value)
        body += [line(_LEFT, y, right, y), text(_LEFT - 7, y + 3.5, f"{value:g}", "small end")]
    body += [
        text(_LEFT + _SIDE / 2, bottom + 32, AXES[0], "small middle"),
        text(_LEFT - 36, _TOP + _SIDE / 2, AXES[1], "small middle", turned=-90),
        polyline([(x_of(points[name][0]), y_of(points[name][1])) for name in joined], "adjacent"),
    ]
    ranked = sorted(points, key=lambda name: (name not in joined, -sum(points[name])))
    for number, name in enumerate(ranked, 1):
        erased, retained = points[name]
        colour = "target" if name == marked else "adjacent" if name in joined else "rest"
        label, y = f"{name}: {erased:.1f}, {retained:.1f}", _TOP + 6 + 19 * (number - 1)
        body += [
            dot(x_of(erased), y_of(retained), number, colour, label),
            dot(right + 40, y, number, colour),
            text(right + 56, y + 4, label, "value"),
        ]
    return Chart(_WIDTH, max(bottom + 40, _TOP + 30 + 19 * len(points)), body).file(title)


def _floor(values: Sequence[float]) -> float:
    """Where an axis begins: the ten below the lowest value, so that the plot shows at least ten."""
    return float(max(0, min(90, 10 * int((min(values, default=0.0) - 2) // 10))))


def render_benchmark(summary: Mapping[str, Any], grids: Sequence[Mapping[str, Any]]) -> str:
    """The page. grids: see `grids_of`."""
    cells: dict[str, Any] = {}
    if summary["arms"]:
        mains = [m["name"] for m in summary["metrics"] if m["main"]]
        cells = {
            "first": tables.main_table(summary),
            "figure": figure(summary),
            "rest": [
                tables.significance(summary),
                tables.cost_table(summary),
                tables.settings_table(summary),
            ],
            "details": tables.metric_tables(summary),
            "by_target": [tables.target_table(summary, name) for name in mains],
        }
    return render_template(
        "benchmark.html", summary=summary, cells=cells, trade_offs=trade_offs(summary), grids=grids
    )


def grids_of(
    read: Callable[[str, str], bytes | None], records: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The stored pictures by target: ``target``, ``rows`` (concepts), ``figures`` (name, data: URI), the
    original first, and of a condition those of one seed.

    read: (target, file name) -> the PNG, None where there is none. A picture that was changed since is left
    out."""
    pages: dict[str, dict[str, Any]] = {}
    for record in records:
        if grid := record.get("grid"):
            target, label = record["inputs"]["target"], record["inputs"]["arm"]
            page = pages.setdefault(target, {"target": target, "rows": grid["rows"], "figures": []})
            names = {figure["name"] for figure in page["figures"]}
            for name, stored in (("original", grid["original"]), (label, grid["erased"])):
                if name not in names and (uri := _picture(read, target, stored)):
                    page["figures"].append({"name": name, "uri": uri})
            page["figures"].sort(key=lambda figure: figure["name"] != "original")
    return list(pages.values())


def _picture(read: Callable[[str, str], bytes | None], target: str, stored: Mapping[str, str]) -> str | None:
    body = read(target, stored["file"]) or b""
    return data_uri(body) if hashlib.sha256(body).hexdigest() == stored["sha256"] else None
