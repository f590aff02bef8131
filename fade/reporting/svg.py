"""A chart as one SVG for light and dark: its colours are custom properties that the colour scheme sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from fade.reporting.theme import DARK, LIGHT
from fade.utils.text import visible

Point = tuple[float, float]
_ROLES = ("target", "adjacent", "heldout", "rest")
_COLOURS = ("paper", "ink", "muted", "line", *_ROLES)
_OF_ROLES = " ".join(
    f".fade-chart .{role} {{ fill: var(--{role}); }} "
    f".fade-chart polyline.{role} {{ fill: none; stroke: var(--{role}); }}"
    for role in _ROLES
)
STYLE = f"""
.fade-chart {{ {LIGHT.css(*_COLOURS)} }}
@media (prefers-color-scheme: dark) {{ .fade-chart {{ {DARK.css(*_COLOURS)} }} }}
.fade-chart text {{ font: 12px "DejaVu Sans", system-ui, sans-serif; fill: var(--ink); }}
.fade-chart .title {{ font-size: 15px; font-weight: 700; }}
.fade-chart .head {{ font-size: 12.5px; font-weight: 700; }}
.fade-chart .name {{ font-size: 11.5px; }} .fade-chart .first {{ font-weight: 700; }}
.fade-chart .label {{ font-size: 13px; }}
.fade-chart .cell {{ font-size: 9.5px; }} .fade-chart .small {{ font-size: 11px; fill: var(--muted); }}
.fade-chart .dot {{ font-size: 9.5px; font-weight: 700; fill: var(--paper); }}
.fade-chart .middle {{ text-anchor: middle; }} .fade-chart .end {{ text-anchor: end; }}
.fade-chart .paper {{ fill: var(--paper); }} .fade-chart .heat {{ fill: var(--adjacent); }}
.fade-chart line {{ stroke: var(--line); }}
.fade-chart .outline {{ fill: none; stroke: var(--muted); stroke-dasharray: 4 3; }}
.fade-chart polyline {{ fill: none; stroke-width: 2; stroke-linejoin: round; }}
.fade-chart .raw {{ stroke-width: 1; stroke-opacity: .35; }}
.fade-chart polyline.ink {{ stroke: var(--ink); }} .fade-chart circle {{ fill: var(--muted); }}
{_OF_ROLES}
"""
"""Of every chart, and the same in each: a page may hold several."""


@dataclass(frozen=True)
class Chart:
    """Elements of an SVG, and the size of its sheet in pixels."""

    width: float
    height: float
    body: Sequence[str]

    def file(self, title: str = "") -> str:
        """The chart as a file of its own; it brings its paper, so it is readable on a page of any colour."""
        return self.inline(title).replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)

    def inline(self, title: str) -> str:
        """The same as part of an HTML page, which knows the namespace. ``title``: for screen readers."""
        width, height = round(self.width), round(self.height)
        label = f' role="img" aria-label={quoteattr(visible(title))}' if title else ""
        size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
        head = f'<svg class="fade-chart" {size}{label}>'
        paper = f'<rect class="paper" width="{width}" height="{height}"/>'
        return "\n".join([head, f"<style>{STYLE}</style>", paper, *self.body, "</svg>\n"])


def text(x: float, y: float, words: str, style: str, *, turned: float = 0.0) -> str:
    """A line of text with its baseline at (x, y); ``turned``: degrees clockwise about that point."""
    turn = f' transform="rotate({turned:g} {x:.1f} {y:.1f})"' if turned else ""
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}"{turn}>{escape(visible(words))}</text>'


def rect(
    x: float, y: float, width: float, height: float, style: str, *, opacity: float = 1.0, corner: int = 2
) -> str:  # fmt: skip
    """A rectangle; ``opacity``: of its fill; ``corner``: radius in pixels."""
    faint = f' fill-opacity="{opacity:.3f}"' if opacity < 1 else ""
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect class="{style}" {place} rx="{corner}"{faint}/>'


def line(x: float, y: float, to_x: float, to_y: float) -> str:
    """A hairline."""
    return f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}"/>'


def dot(x: float, y: float, number: int, style: str, title: str = "") -> str:
    """A disc with a number; ``title``: what a pointer on it shows."""
    shown = f"<title>{escape(visible(title))}</title>" if title else ""
    disc = f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="8">{shown}</circle>'
    return disc + text(x, y + 3.5, str(number), "dot middle")


def polyline(points: Sequence[Point], style: str, *, dots: bool = False) -> str:
    """A curve through ``points``; ``dots``: mark each of them, as a single point makes no curve."""
    marks = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in points) if dots else ""
    return f'<polyline class="{style}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>{marks}'
