"""The lineage's graph: every box in its place, every arrow between two of them and through no third."""

from __future__ import annotations

import itertools
import re
from typing import Any

from fade.reporting.graph import HIGH, WIDE, Box, lineage_graph
from fade.reporting.html import render
from tests.unit.fade.reporting import samples


def points(path: str, n: int = 60) -> list[tuple[float, float]]:
    """Points of a cubic curve."""
    numbers = [float(text) for text in re.findall(r"-?[\d.]+", path)]
    x0, y0, x1, y1, x2, y2, x3, y3 = numbers
    at = [i / n for i in range(n + 1)]
    weights = [((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3) for t in at]
    return [(a * x0 + b * x1 + c * x2 + d * x3, a * y0 + b * y1 + c * y2 + d * y3) for a, b, c, d in weights]


def inside(box: Box, x: float, y: float) -> bool:
    return box.x < x < box.x + WIDE and box.y < y < box.y + HIGH


def test_no_box_lies_on_another_and_no_arrow_runs_through_one() -> None:
    graph = lineage_graph(samples.lineage(), samples.result())
    for a, b in itertools.combinations(graph.boxes, 2):
        assert abs(a.x - b.x) >= WIDE or abs(a.y - b.y) >= HIGH, (a.key, b.key)
    for path in graph.paths:
        assert [box.key for box in graph.boxes for point in points(path) if inside(box, *point)] == []
    assert all(
        box.x > 0 and box.x + WIDE < graph.width and box.y > 0 and box.y + HIGH < graph.height
        for box in graph.boxes
    )


def test_the_boxes_say_what_the_record_says_and_what_it_lacks_is_unknown() -> None:
    said = {box.key: box.lines for box in lineage_graph(samples.lineage(), samples.result()).boxes}
    assert (
        said["data"] == ("e" * 12, "1 files")
        and said["code"] == ("d" * 12, "clean")
        and said["adapter"] == ("4" * 12, "panda")
    )
    assert said["neighbourhood"] == ("c" * 12, "2 kept, 1 held out") and said["clip"][0] == "unknown"
    empty = {box.key: box.lines[0] for box in lineage_graph({}, samples.result()).boxes}
    assert [key for key, line in empty.items() if line != "unknown"] == ["training", "evaluation"]


def test_a_release_comes_from_its_parts_not_from_a_training() -> None:
    parts = {"fade-lemon/1": {}, "fade-panda/2": {}, "fade-tulip/33": {}}
    boxes = {
        box.key: box for box in lineage_graph({**samples.lineage(), "parts": parts}, samples.result()).boxes
    }
    assert boxes["training"].title == "parts" and boxes["training"].lines == (
        "3 champion(s)",
        "fade-lemon/1, fade-panda/…",
    )
    assert [box.title for box in lineage_graph(samples.lineage(), samples.result()).boxes] == list(boxes)


def test_the_page_shows_it_escaped(pictures: dict[str, Any]) -> None:
    lineage = samples.lineage()
    lineage["code"]["commit"] = "<b>&"
    page = render(samples.report(lineage=lineage), pictures)
    assert 'class="graph"' in page and "&lt;b&gt;&amp;" in page and "<b>&" not in page
