"""A report's charts, drawn by the process aside (`tasks.aside`) while this one draws the others."""

from __future__ import annotations

import base64
import importlib
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from tasks.aside import ask

if TYPE_CHECKING:
    from fade.reporting import Report
    from fade.reporting.canvas import Theme
    from fade.reporting.html import Encoded

NEIGHBOURHOOD = ("target", "targets", "neighbours", "heldout", "similarities", "names", "cache_key")


def charts_aside(report: Report, theme: Theme) -> Callable[[], Mapping[str, Encoded]]:
    """Have the charts drawn; what is returned waits for them."""
    near = {name: getattr(report.neighborhood, name) for name in NEIGHBOURHOOD}
    near["matrix"] = report.neighborhood.matrix.tolist()
    told = {"result": dict(report.result), "history": list(report.history), "neighbourhood": near}
    wait = ask("tasks.charts:charts_as_json", theme=theme.name, **told)
    return lambda: {name: (tuple(size), base64.b64decode(data)) for name, (size, data) in wait().items()}


def get_ready() -> None:
    """Have what draws imported over there, without waiting for it."""
    ask("tasks.charts:libraries")


def libraries() -> None:
    """Import what draws."""
    for name in ("fade.reporting.html", "matplotlib.backends.backend_agg"):
        importlib.import_module(name)


def charts_as_json(
    theme: str,
    result: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    neighbourhood: Mapping[str, Any],
) -> dict[str, Any]:
    """The charts of one theme by name: [[width, height], PNG in base64]."""
    import numpy as np

    from fade.reporting import Report
    from fade.reporting.canvas import DARK, LIGHT
    from fade.reporting.html import encoded_charts

    near = SimpleNamespace(**{**neighbourhood, "matrix": np.asarray(neighbourhood["matrix"])})
    page = Report(
        result, near, rows=(), mined={}, history=history, checks=(), lineage={}, seconds={}, command=""
    )
    drawn = encoded_charts(page, {"light": LIGHT, "dark": DARK}[theme])
    return {name: [size, base64.b64encode(data).decode("ascii")] for name, (size, data) in drawn.items()}
