"""Charts that another process draws are those that this one would."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fade.reporting import Report
from fade.reporting.canvas import DARK, Theme
from fade.reporting.html import encoded_charts
from tasks.charts import charts_as_json, charts_aside
from tests.unit.fade.reporting import samples


def pictured(page: Report, theme: Theme) -> dict[str, Image.Image]:
    """In the place of charts, which take seconds: a picture of all that they are drawn from."""
    near = page.neighborhood
    members = [near.target, *near.targets, *near.neighbours, *near.heldout, *near.names, *near.similarities]
    drawn_from = [
        theme.name,
        page.result,
        page.history,
        members,
        near.similarities,
        np.asarray(near.matrix, dtype=float).tolist(),
    ]
    digest = hashlib.sha256(json.dumps(drawn_from).encode()).digest()
    return {name: Image.frombytes("L", (len(digest), 1), digest) for name in ("heatmap", "losses")}


def test_what_is_drawn_is_the_same_over_json(monkeypatch: pytest.MonkeyPatch) -> None:
    def over_json(function: str, **arguments: Any) -> Any:
        assert function == "tasks.charts:charts_as_json"
        answer = json.dumps(charts_as_json(**json.loads(json.dumps(arguments))))
        return lambda: json.loads(answer)

    monkeypatch.setattr("tasks.charts.ask", over_json)
    monkeypatch.setattr("fade.reporting.html.charts", pictured)
    page = samples.report()
    assert charts_aside(page, DARK)() == encoded_charts(page, DARK)
    less = samples.report(history=page.history[:-1])
    assert charts_aside(less, DARK)() != encoded_charts(page, DARK), "the control: it tells them apart"
