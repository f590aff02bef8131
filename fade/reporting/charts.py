"""Charts: the neighbourhood's heat map, the losses, what the target turned into. Figures of their own, never
pyplot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from fade.data.vocabulary import TOGETHER
from fade.errors import EvaluationError
from fade.reporting.canvas import LIGHT, Theme, percent
from fade.reporting.report_data import NeighborhoodLike, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 200
MAX_LABEL = 34


def charts(report: Report, theme: Theme = LIGHT) -> dict[str, Image.Image]:
    """Every chart of a report by name; "losses" is left out when there is no history."""
    result = report.result
    drawn = {
        "heatmap": heatmap(report.neighborhood, theme=theme),
        "confusion": confusion_bar(
            result["confusion"],
            result.get("base_confusion", []),
            report.neighborhood.targets,
            report.roles,
            theme=theme,
        ),
    }
    if report.history:
        drawn["losses"] = losses(report.history, theme=theme)
    return drawn


def heatmap(neighborhood: NeighborhoodLike, *, others: int = 6, theme: Theme = LIGHT) -> Image.Image:
    """Cosine matrix of the target, its neighbours, the held-out ones and ``others`` concepts spread over the
    rest.

    The rest is sampled evenly along its ranking by similarity, so near and far both show.
    """
    names, roles = heatmap_names(neighborhood, others)
    where = {name: i for i, name in enumerate(neighborhood.names)}
    index = [where[name] for name in names]
    cosines = np.asarray(neighborhood.matrix, dtype=float)[np.ix_(index, index)]
    off = ~np.eye(len(names), dtype=bool)
    side = 0.43 * len(names)
    figure = _figure(side + 3.6, side + 2.3, theme)
    axes = _axes(figure, theme)
    low, high = (float(cosines[off].min()), float(cosines[off].max())) if off.any() else (0.0, 1.0)
    shown = np.where(off, cosines, np.nan)
    drawn = axes.imshow(shown, cmap=_colours(theme), vmin=low, vmax=max(high, low + 1e-6))
    for i, j in zip(*np.nonzero(np.tri(len(names), k=-1)), strict=True):  # the other half says the same
        depth = (cosines[i, j] - low) / max(high - low, 1e-6)
        ink = _ink_on(theme, depth)
        axes.text(
            j,
            i,
            f"{cosines[i, j]:.2f}".lstrip("0"),
            ha="center",
            va="center",
            fontsize=6.6,
            color=ink,
            in_layout=False,
        )
    _names(axes, names, [theme.role(r) for r in roles], theme)
    for edge in (i for i in range(1, len(names)) if roles[i] != roles[i - 1]):
        axes.axhline(edge - 0.5, color=theme.paper, linewidth=3)
        axes.axvline(edge - 0.5, color=theme.paper, linewidth=3)
    colourbar = figure.colorbar(drawn, ax=axes, shrink=0.6, pad=0.02)
    colourbar.outline.set_visible(False)
    colourbar.ax.tick_params(labelsize=7.5, colors=theme.muted, length=0)
    colourbar.set_label("cosine of mean image features", fontsize=8, color=theme.muted)
    axes.set_title(
        f"Neighbourhood of “{neighborhood.target}”",
        loc="left",
        fontsize=12,
        fontweight="bold",
        color=theme.ink,
        pad=14,
    )
    return _image(figure)


def heatmap_names(neighborhood: NeighborhoodLike, others: int) -> tuple[list[str], list[str]]:
    """The concepts of the heat map in order, and their roles."""
    near = [*neighborhood.targets, *neighborhood.neighbours, *neighborhood.heldout]
    roles = [
        *["target"] * len(neighborhood.targets),
        *["adjacent"] * len(neighborhood.neighbours),
        *["heldout"] * len(neighborhood.heldout),
    ]
    rest = sorted(
        (n for n in neighborhood.names if n not in near), key=lambda n: -neighborhood.similarities[n]
    )
    shown = min(others, len(rest))
    far = [rest[i] for i in sorted({round(at) for at in np.linspace(0, len(rest) - 1, shown)})]
    return [*near, *far], [*roles, *["rest"] * len(far)]


def losses(history: Sequence[Mapping[str, Any]], *, theme: Theme = LIGHT) -> Image.Image:
    """One small chart a term of the loss, then gradient norm and learning rate; a smoothed line over the raw
    one.

    ``history``: entries with "step" and numbers; a term that some steps lack is drawn where it exists.
    Raises EvaluationError when there is no step.
    """
    terms = loss_terms(history)
    if not terms:
        raise EvaluationError(
            "the training history has no step.", stage="report", action="train at least one step."
        )
    columns = min(3, len(terms))
    lines = -(-len(terms) // columns)
    figure = _figure(3.1 * columns + 0.3, 2.15 * lines + 0.35, theme)
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes, term in zip(grid.flat, terms, strict=False):
        points = [(float(e["step"]), float(e[term])) for e in history if term in e]
        steps, values = np.array(points).T
        colour = {"loss": theme.ink, "lr": theme.rest, "grad_norm": theme.rest}.get(term, theme.adjacent)
        _style(axes, theme)
        single = len(values) < 3
        axes.plot(
            steps,
            values,
            color=colour,
            linewidth=0.8,
            alpha=0.28,
            marker="o" if single else None,
            markersize=3,
        )
        axes.plot(steps, values if term == "lr" else smoothed(values), color=colour, linewidth=1.7)
        axes.set_title(
            TERMS.get(term, term.replace("_", " ")),
            loc="left",
            fontsize=9.5,
            fontweight="bold",
            color=theme.ink,
        )
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.locator_params(axis="both", nbins=6)
        if np.ptp(values) > 0 and values.min() >= 0:
            axes.set_ylim(bottom=0)
    for axes in list(grid.flat)[len(terms) :]:
        axes.set_visible(False)
    for axes in list(grid.flat)[max(0, len(terms) - columns) : len(terms)]:
        axes.set_xlabel("step", fontsize=8, color=theme.muted)
    return _image(figure)


TERMS = {"loss": "loss (weighted sum)", "lr": "learning rate", "grad_norm": "gradient norm"}


def loss_terms(history: Sequence[Mapping[str, Any]]) -> list[str]:
    """The numeric columns of a history: the loss, its terms as they first appear, gradient norm and rate
    last."""
    keys = dict.fromkeys(
        k for e in history for k, v in e.items() if isinstance(v, int | float) and not isinstance(v, bool)
    )
    middle = [k for k in keys if k not in {"step", "loss", "grad_norm", "lr"}]
    return [k for k in ("loss", *middle, "grad_norm", "lr") if k in keys]


def smoothed(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Centred running mean over about a twentieth of the steps; shorter at both ends, so that nothing is
    invented."""
    half = max(0, len(values) // 40)
    total = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    low, high = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    mean: np.ndarray[Any, Any] = (total[high] - total[low]) / (high - low)
    return mean


def confusion_bar(
    erased: Sequence[Mapping[str, Any]],
    base: Sequence[Mapping[str, Any]],
    targets: Sequence[str],
    roles: Mapping[str, str],
    *,
    top: int = 8,
    theme: Theme = LIGHT,
) -> Image.Image:
    """What the target's pictures are judged to be: filled bars by the erased model, outlines by the original
    one (% of them)."""
    after = {str(e["becomes"]): float(e["share"]) for e in erased}
    before = {str(e["becomes"]): float(e["share"]) for e in base}
    ranked = sorted(
        {*after, *before, *targets},
        key=lambda n: (n not in targets, -after.get(n, 0.0), -before.get(n, 0.0), n),
    )
    names, hidden = ranked[:top], ranked[top:]

    def _role(name: str) -> str:
        return "target" if name in targets else roles.get(name, "rest")

    figure = _figure(7.6, 0.42 * len(names) + 1.15, theme)
    axes = _axes(figure, theme)
    _style(axes, theme, grid="x")
    at = np.arange(len(names))
    axes.barh(
        at, [after.get(n, 0.0) for n in names], height=0.52, color=[theme.role(_role(n)) for n in names]
    )
    old = [i for i in at if before.get(names[i])]
    axes.barh(
        old,
        [before[names[i]] for i in old],
        height=0.74,
        fill=False,
        edgecolor=theme.muted,
        linewidth=1,
        linestyle=(0, (3, 2)),
    )
    for i, name in enumerate(names):
        share = percent(after.get(name, 0.0)) + (f"  (was {percent(before[name])})" if name in before else "")
        axes.text(
            max(after.get(name, 0.0), before.get(name, 0.0)) + 1.5,
            i,
            share,
            va="center",
            fontsize=8.5,
            color=theme.ink,
        )
    axes.set_yticks(at, [_short(n) for n in names], fontsize=9.5, color=theme.ink)
    axes.invert_yaxis()
    axes.set_xlim(0, 122)
    axes.set_xticks([0, 25, 50, 75, 100])
    axes.spines["left"].set_color(theme.line)
    note = (
        f", {len(hidden)} more, {percent(max(after.get(n, 0.0) for n in hidden))} or less each"
        if hidden
        else ""
    )
    axes.set_xlabel(
        f"% of the pictures of “{TOGETHER.join(targets)}”; filled: erased, dashed: original{note}",
        fontsize=8,
        color=theme.muted,
    )
    return _image(figure)


def _figure(width: float, height: float, theme: Theme) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(
        figsize=(width, height), dpi=DPI, facecolor=theme.paper, layout="tight"
    )  # "constrained" takes twice as long to lay out
    figure.get_layout_engine().set(h_pad=2.2, w_pad=1.4)  # type: ignore[union-attr, call-arg]  # the tight engine's font sizes
    return figure


def _axes(figure: Figure, theme: Theme) -> Axes:
    axes = figure.subplots()
    axes.set_facecolor(theme.paper)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def _style(axes: Axes, theme: Theme, grid: str = "y") -> None:
    axes.set_facecolor(theme.paper)
    for side, spine in axes.spines.items():
        spine.set_visible(side == ("bottom" if grid == "y" else "left"))
        spine.set_color(theme.line)
    axes.grid(axis="y" if grid == "y" else "x", color=theme.line, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=7.5, colors=theme.muted, length=0)


def _names(axes: Axes, names: Sequence[str], colours: Sequence[str], theme: Theme) -> None:
    at = np.arange(len(names))
    axes.set_xticks(
        at, [_short(n) for n in names], rotation=42, ha="right", rotation_mode="anchor", fontsize=8
    )
    axes.set_yticks(at, [_short(n) for n in names], fontsize=8)
    axes.tick_params(length=0, pad=5)
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        for i, (label, colour) in enumerate(zip(labels, colours, strict=True)):
            label.set(color=colour, fontweight="bold" if i == 0 else "normal")


def _short(name: str) -> str:
    return name if len(name) <= MAX_LABEL else name[: MAX_LABEL - 1] + "…"


def _colours(theme: Theme) -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    ends = (
        ["#f6f1e7", "#a9cbd9", "#3f86ad", "#123f63"]
        if theme.name == "light"
        else ["#242220", "#27465a", "#3f86ad", "#bfe3f5"]
    )
    return LinearSegmentedColormap.from_list(f"fade-{theme.name}", ends)


def _ink_on(theme: Theme, depth: float) -> str:
    dark_cell = depth > 0.5 if theme.name == "light" else depth < 0.75
    return "#ffffff" if dark_cell else "#1d1b18"


def _image(figure: Figure) -> Image.Image:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]  # matplotlib has no types here
    pixels = canvas.buffer_rgba()  # type: ignore[no-untyped-call]
    return Image.fromarray(np.asarray(pixels)).convert("RGB")
