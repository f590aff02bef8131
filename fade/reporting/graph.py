"""The lineage as a graph: what went into what, from data and code to the adapter and its numbers. Boxes and
arrows for the page's SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fade.evaluation.metrics import at_path, metric

WIDE, HIGH = 168, 58
_ACROSS, _DOWN = 40, 16
_WORDS = 26
"""Characters that fit on a line of a box."""
_SHORT = 12
"""Characters of a hash that a box shows."""


@dataclass(frozen=True)
class Box:
    """One thing with its name, two lines about it, and its upper left corner."""

    key: str
    title: str
    lines: Sequence[str]
    x: float
    y: float


@dataclass(frozen=True)
class Graph:
    """Boxes of WIDE x HIGH, and curves (SVG path data) from each to what it went into."""

    boxes: Sequence[Box]
    paths: Sequence[str]
    tips: Sequence[str]
    """The arrows' heads; no marker, which the page would have to refer to by an address."""
    width: float
    height: float
    box: tuple[int, int] = (WIDE, HIGH)


_NODES: dict[str, tuple[int, int, tuple[str, ...]]] = {
    "data": (0, 3, ()),
    "base": (1, 2, ("data",)),
    "clip": (1, 3, ("data",)),
    "judge": (1, 4, ("data",)),
    "code": (2, 0, ()),
    "params": (2, 1, ()),
    "neighbourhood": (2, 3, ("base", "clip")),
    "training": (3, 2, ("code", "params", "base", "neighbourhood")),
    "adapter": (4, 2, ("training",)),
    "evaluation": (5, 3, ("adapter", "judge")),
}
"""Column and row of each, so that no arrow runs through a box; and what it is made from."""


def lineage_graph(lineage: Mapping[str, Any], result: Mapping[str, Any]) -> Graph:
    """The graph of one run. What its record lacks is shown as unknown, never left out."""

    def size(path: str) -> int:
        return len(at_path(lineage, path) or ())

    def short(path: str) -> str:
        return str(at_path(lineage, path) or "unknown")[:_SHORT]

    dirty = {True: "with uncommitted changes", False: "clean", None: "state unknown"}
    overrides, parts = size("params.overrides"), ", ".join(lineage.get("parts") or {})
    measured = {name: result["metrics"][name] for name in ("A_er", "ERB")}
    lines: dict[str, tuple[str, ...]] = {
        "code": (short("code.commit"), dirty[at_path(lineage, "code.dirty")]),
        "params": (short("params.sha256"), f"{overrides or 'nothing'} overridden"),
        "data": (short("data.md5"), f"{size('data.files')} files"),
        "base": (short("base.sha256"), "what is erased from"),
        "clip": (short("inputs.before.clip"), "finds the neighbours"),
        "judge": (short("judge.sha256"), "recognises the pictures"),
        "neighbourhood": (
            short("neighbourhood.cache_key"),
            f"{size('neighbourhood.neighbours')} kept, {size('neighbourhood.heldout')} held out",
        ),
        "training": (
            "/".join(str(result[key]) for key in ("method", "variant") if key in result),
            f"seed {result['seed']}",
        ),
        "adapter": (short("outputs.adapter_sha256"), str(result["target"])),
        "evaluation": tuple(
            f"{metric(name).title} " + ("not measured" if value is None else f"{value:.1f} %")
            for name, value in measured.items()
        ),
    }
    if parts:  # a release is trained by none
        names = parts if len(parts) <= _WORDS else f"{parts[: _WORDS - 1]}…"
        lines["training"] = (f"{size('parts')} champion(s)", names)
    boxes = {
        key: Box(
            key,
            "parts" if key == "training" and parts else key,
            lines[key],
            1 + column * (WIDE + _ACROSS),
            1 + row * (HIGH + _DOWN),
        )
        for key, (column, row, _) in _NODES.items()
    }
    made = {boxes[key]: [boxes[source] for source in sources] for key, (_, _, sources) in _NODES.items()}
    return Graph(
        boxes=list(boxes.values()),
        paths=[_curve(source, box) for box, sources in made.items() for source in sources],
        tips=[
            f"M{box.x - 6:g} {box.y + HIGH / 2 - 3:g}l6 3l-6 3z" for box, sources in made.items() if sources
        ],
        width=max(box.x for box in made) + WIDE + 1,
        height=max(box.y for box in made) + HIGH + 1,
    )


def _curve(start: Box, end: Box) -> str:
    x0, y0, x1, y1 = start.x + WIDE, start.y + HIGH / 2, end.x - 5, end.y + HIGH / 2
    middle = (x0 + x1) / 2
    return f"M{x0:g} {y0:g}C{middle:g} {y0:g} {middle:g} {y1:g} {x1:g} {y1:g}"
