"""Hostile texts in every place of a report: page, card, charts, graph, pictures."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from fade.reporting.card import card, describe
from fade.reporting.charts import charts, confusion_bar, losses
from fade.reporting.html import render
from fade.reporting.image_grid import GridRow, image_grid
from fade.reporting.page import render_checks
from fade.reporting.report_data import Report, Row
from fade.reporting.svg import Chart, dot
from fade.utils.text import visible
from tests.hostile import HOSTILE, forbidden
from tests.unit.fade.reporting import samples

texts = pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)


class Tags(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.handlers: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text += data


def _report(text: str) -> Report:
    confusion = [{"becomes": text, "count": 1, "share": 4.2}]
    names = {
        "target": text,
        "targets": [text],
        "neighbours": [text],
        "heldout": [text],
        "confusion": confusion,
    }
    lineage = samples.lineage()
    lineage["request"] = {"id": "a", "reason": text, "by": text}
    lineage["data"] = {**lineage["data"], "md5": text}
    return samples.report(
        result=samples.result(**names),
        lineage=lineage,
        rows=[Row(text, "target", samples.pictures(), samples.pictures())],
        command=f"fade run --target '{text}'",
        checks=[{**samples.CHECKS[0], "title": text}],
    )


@texts
def test_a_page_shows_a_text_and_runs_nothing(text: str, pictures: dict[str, Any]) -> None:
    html = render(_report(text), {**pictures, "rows": pictures["rows"][:1]})
    page = Tags(html)
    assert not forbidden(html) and not page.handlers
    assert not {"script", "iframe", "object", "embed", "link", "form"} & page.tags
    assert "".join(visible(text, lines=True).split()) in "".join(page.text.split())
    html.encode()


@texts
def test_a_page_of_checks_shows_a_text_and_runs_nothing(text: str) -> None:
    check: dict[str, Any] = samples.CHECKS[0]
    row = {
        **check["results"][1],
        "title": text,
        "observed": text,
        "rows": [{"row": text, "value": text}],
    }
    html = render_checks(text, [{**row, "type": "x"}], {text: text})
    assert not forbidden(html) and "script" not in Tags(html).tags and not Tags(html).handlers


@texts
def test_a_card_is_text_alone(text: str) -> None:
    report = _report(text)
    written = card(report.result, report.lineage, base_model=text or "data/base", command=report.command)
    assert not forbidden(written) and not forbidden(describe(written))
    body = re.sub(r"(?s)```.*?```", "", written.split("---\n", 2)[2])
    assert not re.search(r"(?<!\\)<(script|img)|(?<!\\)\]\(http", body)
    assert {line for line in body.splitlines() if re.match(r"#+ ", line)} <= {
        line for line in body.splitlines() if line.startswith("## ") or ", erased" in line
    }


@texts
def test_a_chart_is_well_formed_and_measures_what_it_shows(text: str) -> None:
    bars = confusion_bar([{"becomes": text, "share": 4.2}], [], [text], {})
    curves = losses([{"step": 1, text: 1.0, "loss": 2.0}, {"step": 2, text: 0.5, "loss": 1.0}])
    dots = Chart(100, 100, [dot(1, 2, 3, "rest", text)])
    for chart in (bars, curves, dots):
        svg = chart.file(text)
        ElementTree.fromstring(svg)
        assert not forbidden(svg) and "<script" not in svg and np.isfinite([chart.width, chart.height]).all()
        svg.encode()


def test_every_chart_of_a_report_is_well_formed() -> None:
    for text in ("$\\frac$", "pa\x1bnda", "\ud800", "<script>", "\u202e"):
        for name, chart in charts(_report(text)).items():
            svg = chart.file(name + text)
            ElementTree.fromstring(svg)
            assert not forbidden(svg)


@texts
def test_a_picture_grid_is_drawn_with_any_text(text: str) -> None:
    row = GridRow([samples.pictures(1)], caption=text[:300], titles=[text[:300]], notes=[text[:300]])
    image = image_grid([row], side=16, text_size=8, title=text[:300], note=text[:300])
    assert image.width >= 16 and image.height >= 16
