"""Charts: what is drawn, in which order, in colours for light and dark, and well-formed whatever the names
are."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from fade.errors import EvaluationError
from fade.reporting.charts import (
    charts,
    confusion_bar,
    heatmap,
    heatmap_names,
    loss_terms,
    losses,
    smoothed,
    thinned,
    ticks,
)
from fade.reporting.svg import STYLE, Chart
from fade.reporting.theme import DARK, LIGHT
from tests.unit.fade.reporting import samples

SVG = "{http://www.w3.org/2000/svg}"


def words(chart: Chart) -> list[str]:
    """The texts of a chart, in its order; raises where the file is no XML."""
    return [element.text or "" for element in ElementTree.fromstring(chart.file()).iter(f"{SVG}text")]


def bars(chart: Chart, role: str) -> list[float]:
    return [
        float(r.get("width", ""))
        for r in ElementTree.fromstring(chart.file()).iter(f"{SVG}rect")
        if r.get("class") == role
    ]


def test_every_chart_is_one_svg_that_takes_its_colours_from_the_reader_s_scheme() -> None:
    made = charts(samples.report())
    assert set(made) == {"heatmap", "confusion", "losses"}
    light, _, dark = STYLE.partition("@media (prefers-color-scheme: dark)")
    assert f"--paper: {LIGHT.paper};" in light and f"--paper: {DARK.paper};" in dark
    for chart in made.values():
        root = ElementTree.fromstring(chart.file("a <title>"))
        assert (
            root.get("aria-label") == "a <title>"
            and root.get("viewBox") == f"0 0 {round(chart.width)} {round(chart.height)}"
        )
        paper = root.find(f"{SVG}rect")
        assert paper is not None and paper.get("class") == "paper" and paper.get("width") == root.get("width")
        assert "#" not in "".join(chart.body), "a colour that does not follow the scheme"
        assert re.sub(' xmlns="[^"]+"', "", chart.file("x")) == chart.inline("x")
    assert set(charts(samples.report(history=[]))) == {"heatmap", "confusion"}


def test_every_colour_that_a_chart_uses_is_defined_in_both_schemes() -> None:
    light, _, dark = STYLE.partition("@media")
    used = set(re.findall(r"var\((--\w+)\)", STYLE))
    assert used and used == set(re.findall(r"(--\w+):", light)) == set(re.findall(r"(--\w+):", dark))


def test_everything_lies_on_the_sheet() -> None:
    for chart in charts(samples.report()).values():
        for element in ElementTree.fromstring(chart.file()).iter():
            for key, most in (
                ("x", chart.width),
                ("y", chart.height),
                ("x2", chart.width),
                ("y2", chart.height),
            ):
                assert 0 <= float(element.get(key, "0")) <= most
            for point in element.get("points", "").split():
                x, y = map(float, point.split(","))
                assert 0 <= x <= chart.width and 0 <= y <= chart.height


def test_a_name_cannot_inject_markup() -> None:
    evil = "</text><script>alert(1)</script>&"
    chart = confusion_bar([{"becomes": evil, "share": 100.0}], [], [evil], {})
    assert evil in words(chart) and "<script" not in chart.inline(evil)


def test_heatmap_shows_the_near_ones_then_a_spread_of_the_rest_from_near_to_far() -> None:
    names, roles = heatmap_names(samples.Neighborhood(), others=2)
    assert names == ["panda", "koala", "bear", "hamster", "tulip", "taxi"]
    assert roles == ["target", "adjacent", "adjacent", "heldout", "rest", "rest"]
    assert heatmap_names(samples.Neighborhood(), others=0)[0] == names[:4]
    assert heatmap(samples.Neighborhood(), others=2).height > heatmap(samples.Neighborhood(), others=0).height


def test_heatmap_reads_the_rows_of_the_vocabulary_not_of_the_list() -> None:
    near = samples.Neighborhood()
    shuffled = samples.Neighborhood(names=[near.names[i] for i in (3, 1, 5, 0, 2, 4)])
    assert heatmap(near).file() != heatmap(shuffled).file()
    between = f"{near.cosines(['koala', 'panda'])[0, 1]:.2f}".lstrip("0")
    cells = [w for w in words(heatmap(near)) if w.startswith(".")]
    assert cells[0] == between and len(cells) == len(near.names) * (len(near.names) - 1) // 2


def test_loss_terms_are_ordered_and_only_numbers() -> None:
    history = [
        {"step": 1, "lr": 0.1, "adjacency": 2.0, "note": "x", "flag": True, "loss": 3.0},
        {"step": 2, "grad_norm": 1.0, "erase": 1.0},
    ]
    assert loss_terms(history) == ["loss", "adjacency", "erase", "grad_norm", "lr"]
    assert [w for w in words(losses(history)) if w in (("loss (weighted "
                                                       "sum)"), "adjacency", "erase", ("gradient "
                                                                                     "norm"), ("learning "
                                                                                              "rate"))] == [
        "loss (weighted sum)", "adjacency", "erase", "gradient norm", "learning rate"
    ]  # fmt: skip
    assert losses([{"step": 1, "loss": float("nan")}, {"step": 2, "loss": 2.0}]).file().count("<circle") == 1
    with pytest.raises(EvaluationError):
        losses([])


def test_smoothing_keeps_constants_and_length() -> None:
    values = np.r_[np.zeros(100), np.ones(100)]
    assert smoothed(values).shape == values.shape
    assert np.allclose(smoothed(np.full(80, 3.5)), 3.5)
    assert 0 < smoothed(values)[100] < 1
    assert np.array_equal(smoothed(np.array([1.0, 2.0])), [1.0, 2.0])


def test_a_long_curve_is_thinned_and_keeps_its_peaks() -> None:
    values = np.zeros(5000)
    values[[0, 1234, 4999]] = 3.0, 9.0, -7.0
    kept = thinned(values)
    assert len(kept) <= 402 and (np.diff(kept) > 0).all() and {0, 1234, 4999} <= set(kept.tolist())
    assert np.array_equal(thinned(np.ones(300)), np.arange(300))


@pytest.mark.parametrize(
    ("low", "high", "most", "numbers"),
    [
        (0, 2, 4, [0, 0.5, 1, 1.5, 2]),
        (1, 300, 5, [100, 200, 300]),
        (-1, -0.003, 4, [-1, -0.75, -0.5, -0.25]),
        (0, 1e-4, 4, [0, 2.5e-5, 5e-5, 7.5e-5, 1e-4]),
    ],
)
def test_axes_have_round_numbers(low: float, high: float, most: int, numbers: list[float]) -> None:
    assert ticks(low, high, most) == pytest.approx(numbers)


def test_confusion_has_a_bar_a_name_and_always_the_target() -> None:
    one = confusion_bar(
        [{"becomes": "koala", "share": 100.0}],
        [{"becomes": "panda", "share": 95.83}],
        ["panda"],
        {"koala": "adjacent"},
    )
    three = confusion_bar(
        [{"becomes": n, "share": 30.0} for n in ("koala", "bear", "taxi")], [], ["panda"], {}
    )
    assert "panda" in words(one) and "0 %  (was 95.8 %)" in words(one) and "100 %" in words(one)
    assert (
        bars(one, "adjacent") == [400.0]
        and bars(one, "outline") == [pytest.approx(383.3, abs=0.05)]
        and bars(one, "target") == [0.0]
    )
    assert bars(three, "rest") == [120.0] * 3
    assert three.height - one.height == pytest.approx(2 * 38)
    many = confusion_bar([{"becomes": str(i), "share": 1.0} for i in range(40)], [], ["panda"], {})
    assert many.height < 2 * three.height and any("33 more, 1 % or less each" in w for w in words(many))
