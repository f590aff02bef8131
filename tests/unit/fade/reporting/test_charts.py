"""Charts: what is drawn, in which order, and that matplotlib's global state is left alone."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from fade.errors import EvaluationError
from fade.reporting.canvas import DARK, LIGHT
from fade.reporting.charts import charts, confusion_bar, heatmap, heatmap_names, loss_terms, losses, smoothed
from tests.unit.fade.reporting import samples


def test_every_chart_is_drawn_in_both_themes_and_pyplot_stays_out() -> None:
    before = sys.modules.get("matplotlib.pyplot")
    for theme in (LIGHT, DARK):
        drawn = charts(samples.report(), theme)
        assert set(drawn) == {"heatmap", "confusion", "losses"}
        for image in drawn.values():
            assert "#{:02x}{:02x}{:02x}".format(*image.getpixel((0, 0))) == theme.paper
            assert np.asarray(image).std() > 5
    assert sys.modules.get("matplotlib.pyplot") is before
    assert set(charts(samples.report(history=[]))) == {"heatmap", "confusion"}


def test_heatmap_shows_the_near_ones_then_a_spread_of_the_rest_from_near_to_far() -> None:
    names, roles = heatmap_names(samples.Neighborhood(), others=2)
    assert names == ["panda", "koala", "bear", "hamster", "tulip", "taxi"]
    assert roles == ["target", "adjacent", "adjacent", "heldout", "rest", "rest"]
    assert heatmap_names(samples.Neighborhood(), others=0)[0] == names[:4]
    assert heatmap(samples.Neighborhood(), others=2).width > heatmap(samples.Neighborhood(), others=0).width


def test_heatmap_reads_the_rows_of_the_vocabulary_not_of_the_list() -> None:
    near = samples.Neighborhood()
    shuffled = samples.Neighborhood(names=[near.names[i] for i in (3, 1, 5, 0, 2, 4)])
    assert heatmap(near).tobytes() != heatmap(shuffled).tobytes()


def test_loss_terms_are_ordered_and_only_numbers() -> None:
    history = [
        {"step": 1, "lr": 0.1, "adjacency": 2.0, "note": "x", "flag": True, "loss": 3.0},
        {"step": 2, "grad_norm": 1.0, "erase": 1.0},
    ]
    assert loss_terms(history) == ["loss", "adjacency", "erase", "grad_norm", "lr"]
    assert losses(history).height > losses(samples.history()[:2]).height * 0.9
    with pytest.raises(EvaluationError):
        losses([])


def test_smoothing_keeps_constants_and_length() -> None:
    values = np.r_[np.zeros(100), np.ones(100)]
    assert smoothed(values).shape == values.shape
    assert np.allclose(smoothed(np.full(80, 3.5)), 3.5)
    assert 0 < smoothed(values)[100] < 1
    assert np.array_equal(smoothed(np.array([1.0, 2.0])), [1.0, 2.0])


def test_confusion_has_a_bar_a_name_and_always_the_target() -> None:
    one = confusion_bar([{"becomes": "koala", "share": 100.0}], [], ["panda"], {})
    three = confusion_bar(
        [{"becomes": n, "share": 30.0} for n in ("koala", "bear", "taxi")], [], ["panda"], {}
    )
    assert three.height - one.height == pytest.approx(2 * 0.42 * 200, abs=2)
    assert (
        confusion_bar([{"becomes": str(i), "share": 1.0} for i in range(40)], [], ["panda"], {}).height
        < 2 * three.height
    )
