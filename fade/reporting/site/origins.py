"""What the champions and the current release came from, as one graph: data, base, champions, release."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fade.reporting.site.data import SiteData

WIDE, HIGH = 190, 44
_ACROSS, _DOWN = 60, 12
_LANES = 6
_SHORT = 12
_LETTERS = 24
"""Characters that fit on a line of a box."""


@dataclass(frozen=True)
class OriginBox:
    """A box with two lines, its upper left corner, and the page that it leads to (empty: none)."""

    title: str
    line: str
    x: float
    y: float
    file: str = ""


@dataclass(frozen=True)
class OriginsGraph:
    """Boxes of WIDE x HIGH, and lines (SVG path data) from each to what it went into."""

    boxes: Sequence[OriginBox]
    paths: Sequence[str]
    width: float
    height: float
    box: tuple[int, int] = (WIDE, HIGH)


def origins_graph(data: SiteData) -> OriginsGraph | None:
    """The graph; None when no concept has a champion."""
    champions = sorted(data.champions, key=lambda one: one.name)
    if not champions:
        return None
    columns: list[dict[str, OriginBox]] = [{}, {}, {}, {}]

    def box(column: int, key: str, title: str, line: str, file: str = "") -> OriginBox:
        row = len(columns[column])
        x, y = 1 + column * (WIDE + _ACROSS), 1 + row * (HIGH + _DOWN)
        return columns[column].setdefault(key, OriginBox(_cut(title), _cut(line), x, y, file))

    release = data.current_release
    joined: list[tuple[OriginBox, OriginBox]] = []
    for version in champions:
        source = box(0, version.data_md5, "data", version.data_md5[:_SHORT] or "unknown")
        base = box(1, version.base_sha256, "base", version.base_sha256[:_SHORT] or "unknown")
        champion = box(2, version.label, version.concept or version.name, version.label, version.file)
        joined += [(source, base), (base, champion)]
        if release and version.label in release.parts:
            joined.append((champion, box(3, release.label, "release", release.label, release.file)))
    boxes = [one for column in columns for one in column.values()]
    return OriginsGraph(
        boxes,
        list(dict.fromkeys(_line(start, end) for start, end in joined)),
        max(one.x for one in boxes) + WIDE + 1,
        max(one.y for one in boxes) + HIGH + 1,
    )


def _cut(text: str) -> str:
    return text if len(text) <= _LETTERS else f"{text[: _LETTERS - 1]}…"


def _line(start: OriginBox, end: OriginBox) -> str:
    """Across, along, across: the lines of one box share their way, those of the next box have another."""
    x0, y0, x1, y1 = start.x + WIDE, start.y + HIGH / 2, end.x, end.y + HIGH / 2
    champion = start.x > 2 * (WIDE + _ACROSS)  # all of them lead to one release
    lane = _LANES / 2 if champion else round((start.y - 1) / (HIGH + _DOWN)) % _LANES
    return f"M{x0:g} {y0:g}H{x0 + 10 + lane * (_ACROSS - 20) / _LANES:g}V{y1:g}H{x1:g}"
