"""Erasure against retention as one SVG: a numbered point a method, the frontier a line; light and dark, no
script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

from fade.reporting.theme import DARK, LIGHT

WIDTH, HEIGHT, LEFT, TOP, SIDE = 760, 420, 58, 40, 340
"""Pixels: the sheet, the plot's corner, its side."""
LEGEND = LEFT + SIDE + 40


def frontier_svg(
    points: Mapping[str, Sequence[float]],
    lines: Mapping[str, Sequence[str]],
    *,
    title: str,
    marked: str = "",
    axes: tuple[str, str],
) -> str:
    """The figure.

    points: name -> (erased, retained), percent. lines: name -> the points that it joins, in order. marked: a
    point to stand out. axes: what is written on x and y."""
    low = [_floor([point[axis] for point in points.values()]) for axis in (0, 1)]

    def at(point: Sequence[float]) -> tuple[float, float]:
        x, y = ((value - start) / (100 - start) for value, start in zip(point, low, strict=True))
        return LEFT + SIDE * x, TOP + SIDE * (1 - y)

    body = [f'<text class="title" x="{LEFT}" y="22">{escape(title)}</text>', *_grid(low, axes)]
    for joined in lines.values():
        corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(points[name]) for name in joined))
        body.append(f'<polyline points="{corners}"/>')
    efficient = {name for joined in lines.values() for name in joined}
    ranked = sorted(points, key=lambda name: (name not in efficient, -sum(points[name])))
    for number, name in enumerate(ranked, 1):
        x, y = at(points[name])
        kind = "ours" if name == marked else "best" if name in efficient else "other"
        label = f"{name}: {points[name][0]:.1f}, {points[name][1]:.1f}"
        body.append(
            f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="8"><title>{escape(label)}</title></circle>'
        )
        body.append(f'<text class="dot" x="{x:.1f}" y="{y + 3.5:.1f}">{number}</text>')
        line = TOP + 10 + 19 * (number - 1)
        body.append(
            f'<circle class="{kind}" cx="{LEGEND}" cy="{line - 4}" r="8"/><text class="dot" x="{LEGEND}" '
            f'y="{line - 0.5}">{number}</text>'
        )
        body.append(f'<text class="name" x="{LEGEND + 16}" y="{line}">{escape(label)}</text>')
    height = max(HEIGHT, TOP + 30 + 19 * len(points))
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" role="img"'
    )
    return (
        f'{head} aria-label="{escape(title)}">\n<style>{_style()}</style>\n' + "\n".join(body) + "\n</svg>\n"
    )


def _floor(values: Sequence[float]) -> float:
    """Where an axis begins: the ten below the lowest value, never so high that the plot shows less than
    ten."""
    return float(max(0, min(90, 10 * int((min(values, default=0.0) - 2) // 10))))


def _grid(low: Sequence[float], axes: tuple[str, str]) -> list[str]:
    """Hairlines with their numbers, and the names of the axes."""
    out = []
    for axis, start in enumerate(low):
        step = 2 if start >= 90 else 5 if start >= 70 else 10 if start >= 40 else 20
        for value in range(int(start), 101, step):
            place = SIDE * (value - start) / (100 - start)
            if axis == 0:
                x = LEFT + place
                out.append(
                    f'<path d="M{x:.1f} {TOP}V{TOP + SIDE}"/><text class="tick" x="{x:.1f}" '
                    f'y="{TOP + SIDE + 15}">{value}</text>'
                )
            else:
                y = TOP + SIDE - place
                out.append(
                    f'<path d="M{LEFT} {y:.1f}H{LEFT + SIDE}"/><text class="tick side" x="{LEFT - 7}" '
                    f'y="{y + 3.5:.1f}">{value}</text>'
                )
    out.append(f'<text class="axis" x="{LEFT + SIDE / 2}" y="{TOP + SIDE + 32}">{escape(axes[0])}</text>')
    turned = f"rotate(-90 {LEFT - 36} {TOP + SIDE / 2})"
    return [
        *out,
        (
            f'<text class="axis" x="{LEFT - 36}" y="{TOP + SIDE / 2}" '
            f'transform="{turned}">{escape(axes[1])}</text>'
        ),
    ]


def _style() -> str:
    """The figure's own: it is shown as an image, too, where no page lends it one."""
    rules = []
    for theme, open_, close in ((LIGHT, "", ""), (DARK, "@media (prefers-color-scheme: dark) {", "}")):
        rules.append(
            f"{open_} svg {{ background: {theme.paper}; }} text {{ fill: {theme.ink}; }} path "
            f"{{ stroke: {theme.line}; }} "
            f"polyline {{ stroke: {theme.adjacent}; }} .tick, .axis {{ fill: {theme.muted}; }} .other "
            f"{{ fill: {theme.rest}; }} "
            f".best {{ fill: {theme.adjacent}; }} .ours {{ fill: {theme.target}; }} .dot "
            f"{{ fill: {theme.paper}; }} {close}"
        )
    return (
        "text { font: 12px system-ui, 'DejaVu Sans', sans-serif; } .title { font-size: 15px; font-weight: "
        "700; } "
        "polyline { fill: none; stroke-width: 1.8; } .tick, .axis, .dot { text-anchor: middle; } .tick.side "
        "{ text-anchor: end; } "
        ".tick, .axis { font-size: 11px; } .dot { font-size: 9.5px; font-weight: 700; } " + " ".join(rules)
    )
