"""Charts as SVG, one for light and dark: heat map of the neighbourhood, training curves, confusion bars."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from fade.data.vocabulary import TOGETHER
from fade.errors import EvaluationError
from fade.reporting.interaction import interaction_chart
from fade.reporting.report_data import Report, members
from fade.reporting.svg import Chart, Point, line, polyline, rect, text
from fade.reporting.theme import percent, shortened, width_of

if TYPE_CHECKING:
    from fade.mining.neighborhood import Neighborhood

MAX_LABEL = 34
MAX_BARS = 8
MARGIN = 14.0
CELL, GAP = 31.0, 5.0
"""Pixels of a cell of the heat map, and between the cells of two roles."""
DEEPEST = 0.55
"""Opacity of the largest cosine: ink is read on it with a contrast of at least 4 in both themes."""
PANEL_WIDTH, PANEL_HEIGHT = 288.0, 168.0
"""Pixels of one training curve with its title and its numbers."""
MAX_POINTS = 400
"""Points of a curve from which on it is thinned to the lowest and the highest value of each stretch."""
TERMS = {"loss": "loss (weighted sum)", "lr": "learning rate", "grad_norm": "gradient norm"}


def charts(report: Report) -> dict[str, Chart]:
    """Every chart of a report by name; "losses" is left out when there is no history, "interaction" where
    nothing was predicted."""
    result, near = report.result, report.neighborhood
    before = result.get("base_confusion", [])
    made = {
        "heatmap": heatmap(near),
        "confusion": confusion_bar(result["confusion"], before, near.targets, report.roles),
    }
    if (predicted := result.get("predicted")) and predicted["cost"]:
        made["interaction"] = interaction_chart(predicted)
    return {**made, "losses": losses(report.history)} if report.history else made


def heatmap(neighborhood: Neighborhood, *, others: int = 6) -> Chart:
    """Cosine matrix of the target, its neighbours, the held-out ones and ``others`` of the rest, which is
    sampled evenly along its ranking by similarity, so near and far both show."""
    names, roles = heatmap_names(neighborhood, others)
    cosines = neighborhood.cosines(names)
    off = ~np.eye(len(names), dtype=bool)
    low, high = (float(cosines[off].min()), float(cosines[off].max())) if off.any() else (0.0, 1.0)
    span = max(high - low, 1e-6)

    labels = [shortened(name, MAX_LABEL) for name in names]
    longest = max(width_of(label, 11.5, bold=True) for label in labels)
    left, top = MARGIN + longest + 8, 54.0
    at = [left + i * CELL + GAP * sum(a != b for a, b in pairwise(roles[: i + 1])) for i in range(len(names))]
    side = at[-1] + CELL - left
    title = f"Neighbourhood of “{neighborhood.target}”"
    body = [text(MARGIN, 28, title, "title")]
    for i, label in enumerate(labels):
        style = f"name {roles[i]}" + (" first" if i == 0 else "")
        y, x = at[i] - left + top + CELL / 2, at[i] + CELL / 2
        body.append(text(left - 8, y + 4, label, f"{style} end"))
        body.append(text(x + 4, top + side + 14, label, f"{style} end", turned=-42))
    for i, j in zip(*np.nonzero(off), strict=True):
        depth = (cosines[i, j] - low) / span
        x, y = at[j], at[i] - left + top
        body.append(rect(x, y, CELL - 1, CELL - 1, "heat", opacity=DEEPEST * depth))
        if j < i:  # the other half holds the same numbers
            number = f"{cosines[i, j]:.2f}".replace("0.", ".", 1)
            body.append(text(x + CELL / 2, y + CELL / 2 + 3.5, number, "cell middle"))
    body += _scale(left + side + 24, top, min(side, 180.0), low, high)
    height = top + side + 22 + longest * math.sin(math.radians(42))
    width = max(left + side + 24 + 96, MARGIN * 2 + width_of(title, 15, bold=True))
    return Chart(width, height + MARGIN, body)


def _scale(x: float, y: float, height: float, low: float, high: float) -> list[str]:
    """The colours of the heat map with the cosines that they stand for."""
    each = 6  # whole pixels: translucent steps that overlap, or leave a gap, show as stripes
    steps = max(2, round(height / each))
    shades = enumerate(np.linspace(DEEPEST, 0, steps))
    body = [rect(x, y + i * each, 12, each, "heat", opacity=shade, corner=0) for i, shade in shades]
    numbers = [(high, 8), ((low + high) / 2, each * steps / 2 + 4), (low, each * steps)]
    body += [text(x + 18, y + down, f"{value:.2f}", "small") for value, down in numbers]
    return [*body, text(x + 64, y, "cosine of mean image features", "small end", turned=-90)]


def heatmap_names(neighborhood: Neighborhood, others: int) -> tuple[list[str], list[str]]:
    """The concepts of the heat map in order, and their roles."""
    near = dict(members(neighborhood))
    rest = [name for name in neighborhood.names if name not in near]
    rest.sort(key=lambda name: -neighborhood.similarities[name])
    shown = min(others, len(rest))
    far = [rest[i] for i in sorted({round(at) for at in np.linspace(0, len(rest) - 1, shown)})]
    return [*near, *far], [*near.values(), *["rest"] * len(far)]


def losses(history: Sequence[Mapping[str, Any]]) -> Chart:
    """One small chart a term of the loss, then gradient norm and learning rate; running mean over raw curve.

    ``history``: entries with "step" and numbers; a term that some steps lack is drawn where it exists.
    Raises EvaluationError when there is no step."""
    terms = loss_terms(history)
    if not terms:
        what = "the training history has no step."
        raise EvaluationError(what, stage="report", action="train at least one step.")
    columns = min(3, len(terms))
    body: list[str] = []
    for place, term in enumerate(terms):
        points = [(float(e["step"]), float(e[term])) for e in history if term in e]
        finite = [point for point in points if all(map(math.isfinite, point))]
        x, y = MARGIN + PANEL_WIDTH * (place % columns), MARGIN + PANEL_HEIGHT * (place // columns)
        body += _curve(x, y, term, finite, lowest=place >= len(terms) - columns)
    height = PANEL_HEIGHT * math.ceil(len(terms) / columns)
    return Chart(2 * MARGIN + PANEL_WIDTH * columns, 2 * MARGIN + height + 8, body)


def _curve(x: float, y: float, term: str, points: Sequence[Point], *, lowest: bool) -> list[str]:
    """One term's panel with its corner at (x, y); the ``lowest`` of a column names the axis."""
    body = [text(x, y + 12, TERMS.get(term, term.replace("_", " ")), "head")]
    if not points:
        return body
    left, right, top, bottom = x + 46, x + PANEL_WIDTH - 20, y + 26, y + PANEL_HEIGHT - 32
    steps, values = np.array(points).T
    smooth = values if term == "lr" else smoothed(values)
    low, high = float(values.min()), float(values.max())
    margin = (abs(low) or 1.0) / 20
    low, high = (min(low, 0.0), high) if high > low else (low - margin, high + margin)
    first, end = float(steps.min()), float(steps.max())
    x_of: Callable[[Any], Any] = partial(np.interp, xp=(first, max(end, first + 1)), fp=(left, right))
    y_of: Callable[[Any], Any] = partial(np.interp, xp=(low, high), fp=(bottom, top))
    for value in ticks(low, high, 4):
        at = y_of(value)
        body += [line(left, at, right, at), text(left - 6, at + 3.5, f"{value:g}", "small end")]
    for value in ticks(first, end, 5) if end > first else [first]:
        body.append(text(x_of(value), bottom + 15, f"{value:g}", "small middle"))
    if lowest:
        body.append(text((left + right) / 2, bottom + 29, "step", "small middle"))
    colour = {"loss": "ink", "lr": "rest", "grad_norm": "rest"}.get(term, "adjacent")
    for curve, style in ((values, "raw"), (smooth, "curve")):
        index = thinned(curve)
        corners = list(zip(map(x_of, steps[index]), map(y_of, curve[index]), strict=True))
        body.append(polyline(corners, f"{style} {colour}", dots=style == "raw" and len(values) < 3))
    return body


def thinned(values: np.ndarray[Any, Any], most: int = MAX_POINTS) -> np.ndarray[Any, Any]:
    """Indices, ascending: all, or of a long curve the lowest and the highest value of each stretch."""
    if len(values) <= most:
        return np.arange(len(values))
    stretches = np.array_split(np.arange(len(values)), most // 2)
    ends = [int(s[pick(values[s])]) for s in stretches for pick in (np.argmin, np.argmax)]
    return np.unique([0, *ends, len(values) - 1])


def ticks(low: float, high: float, most: int) -> list[float]:
    """At most ``most`` + 1 round numbers from ``low`` to ``high``, 1, 2, 2.5 or 5 times a power of ten
    apart."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * (1 - 1e-9))
    start = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(start, math.floor(high / step + 1e-9) + 1)]


def loss_terms(history: Sequence[Mapping[str, Any]]) -> list[str]:
    """The numeric columns of a history: loss, its terms as they appear, gradient norm, learning rate."""
    numbers = (
        k for e in history for k, v in e.items() if isinstance(v, int | float) and not isinstance(v, bool)
    )
    keys = dict.fromkeys(numbers)
    middle = [k for k in keys if k not in {"step", "loss", "grad_norm", "lr"}]
    return [k for k in ("loss", *middle, "grad_norm", "lr") if k in keys]


def smoothed(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Centred running mean over about a twentieth of the steps; shorter at both ends."""
    window = np.ones(2 * (len(values) // 40) + 1)
    counts = np.convolve(np.ones(len(values)), window, "same")
    mean: np.ndarray[Any, Any] = np.convolve(values, window, "same") / counts
    return mean


def confusion_bar(
    erased: Sequence[Mapping[str, Any]],
    base: Sequence[Mapping[str, Any]],
    targets: Sequence[str],
    roles: Mapping[str, str],
) -> Chart:
    """What the target's pictures are judged to be, %: bars by the erased model, outlines by the original."""
    after, before = ({str(e["becomes"]): float(e["share"]) for e in rows} for rows in (erased, base))
    names = {*after, *before, *targets}
    ranked = sorted(names, key=lambda n: (n not in targets, -after.get(n, 0.0), -before.get(n, 0.0), n))
    shown, rest = ranked[:MAX_BARS], ranked[MAX_BARS:]
    left = MARGIN + max(width_of(shortened(name, MAX_LABEL), 13) for name in shown) + 10
    row, full = 38.0, 400.0
    bottom = MARGIN + row * len(shown)
    body = []
    for value in (0, 25, 50, 75, 100):
        x = left + full * value / 100
        body += [line(x, MARGIN, x, bottom + 4), text(x, bottom + 19, str(value), "small middle")]
    for i, name in enumerate(shown):
        y = MARGIN + row * i + row / 2
        role = "target" if name in targets else roles.get(name, "rest")
        now, then = after.get(name, 0.0), before.get(name, 0.0)
        body += [
            text(left - 10, y + 4.5, shortened(name, MAX_LABEL), "label end"),
            rect(left, y - 10, full * now / 100, 20, role),
        ]
        if then:
            body.append(rect(left, y - 14, full * then / 100, 28, "outline"))
        share = percent(now) + (f"  (was {percent(then)})" if name in before else "")
        body.append(text(left + full * max(now, then) / 100 + 8, y + 4, share, "value"))
    largest = percent(max((after.get(n, 0.0) for n in rest), default=0.0))
    more = f", {len(rest)} more, {largest} or less each" if rest else ""
    note = f"% of the pictures of “{TOGETHER.join(targets)}”; filled: erased, dashed: original{more}"
    body.append(text(left, bottom + 40, note, "small"))
    width = left + max(full + width_of("100 %  (was 99.9 %)", 12) + 8, width_of(note, 11)) + MARGIN
    return Chart(width, bottom + 40 + MARGIN, body)
