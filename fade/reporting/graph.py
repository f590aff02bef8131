"""The lineage as a graph: what went into what, from data and code to the adapter and its numbers. Boxes and
arrows for the page's SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fade.evaluation.metrics import metric

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


# Column and row of each, so that no arrow runs through a box; and what each is made from.
_PLACES = {
    "data": (0, 3),
    "base": (1, 2),
    "clip": (1, 3),
    "judge": (1, 4),
    "code": (2, 0),
    "params": (2, 1),
    "neighbourhood": (2, 3),
    "training": (3, 2),
    "adapter": (4, 2),
    "evaluation": (5, 3),
}
_FROM = {
    "base": ("data",),
    "clip": ("data",),
    "judge": ("data",),
    "neighbourhood": ("base", "clip"),
    "training": ("code", "params", "base", "neighbourhood"),
    "adapter": ("training",),
    "evaluation": ("adapter", "judge"),
}


def lineage_graph(lineage: Mapping[str, Any], result: Mapping[str, Any]) -> Graph:
    """The graph of one run. What its record lacks is shown as unknown, never left out."""
    code, data, params = (lineage.get(part) or {} for part in ("code", "data", "params"))
    inputs = (lineage.get("inputs") or {}).get("before") or {}
    near, metrics = lineage.get("neighbourhood") or {}, result["metrics"]
    state = {True: "with uncommitted changes", False: "clean", None: "state unknown"}[code.get("dirty")]
    overrides = params.get("overrides") or []
    kept, heldout = (len(near.get(role) or []) for role in ("neighbours", "heldout"))
    words = {
        "code": (_id(code.get("commit")), state),
        "params": (
            _id(params.get("sha256")),
            f"{len(overrides)} overridden" if overrides else "nothing overridden",
        ),
        "data": (_id(data.get("md5")), f"{len(data.get('files') or {})} files"),
        "base": (_id((lineage.get("base") or {}).get("sha256")), "what is erased from"),
        "clip": (_id(inputs.get("clip")), "finds the neighbours"),
        "judge": (_id((lineage.get("judge") or {}).get("sha256")), "recognises the pictures"),
        "neighbourhood": (
            _id(near.get("cache_key")),
            f"{kept} kept, {heldout} held out",
        ),
        "training": (
            "/".join(str(result[key]) for key in ("method", "variant") if key in result),
            f"seed {result['seed']}",
        ),
        "adapter": (_id((lineage.get("outputs") or {}).get("adapter_sha256")), str(result["target"])),
        "evaluation": tuple(f"{metric(name).title} {_percent(metrics[name])}" for name in ("A_er", "ERB")),
    }
    if parts := lineage.get("parts"):  # a release is trained by none
        names = ", ".join(parts)
        words["training"] = (
            f"{len(parts)} champion(s)",
            names if len(names) <= _WORDS else f"{names[: _WORDS - 1]}…",
        )
    boxes = {
        key: Box(
            key,
            "parts" if key == "training" and parts else key,
            words[key],
            1 + column * (WIDE + _ACROSS),
            1 + row * (HIGH + _DOWN),
        )
        for key, (column, row) in _PLACES.items()
    }
    paths = [_curve(boxes[start], boxes[end]) for end, starts in _FROM.items() for start in starts]
    width = max(box.x for box in boxes.values()) + WIDE + 1
    tips = [f"M{boxes[end].x - 6:g} {boxes[end].y + HIGH / 2 - 3:g}l6 3l-6 3z" for end in _FROM]
    return Graph(list(boxes.values()), paths, tips, width, max(box.y for box in boxes.values()) + HIGH + 1)


def _curve(start: Box, end: Box) -> str:
    x0, y0, x1, y1 = start.x + WIDE, start.y + HIGH / 2, end.x - 5, end.y + HIGH / 2
    bend = (x1 - x0) / 2
    return f"M{x0:g} {y0:g}C{x0 + bend:g} {y0:g} {x1 - bend:g} {y1:g} {x1:g} {y1:g}"


def _id(value: Any) -> str:
    return str(value)[:_SHORT] if value else "unknown"


def _percent(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.1f} %"
