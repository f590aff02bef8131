"""Metrics on toy inputs whose answers are known by hand."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from fade.data.vocabulary import Concept, Vocabulary
from fade.errors import EvaluationError
from fade.evaluation import similarity
from fade.evaluation.accuracy import bootstrap_means, confusion, interval, mean_accuracy, top1
from fade.evaluation.err import erasing_retention_balance
from fade.evaluation.evaluate import rest_sample
from fade.evaluation.similarity import ssim


@pytest.mark.parametrize(
    ("er", "adj", "want"), [(100, 100, 100), (100, 50, 200 / 3), (0, 100, 0), (0, 0, 0), (80, 40, 160 / 3)]
)
def test_erb_is_the_harmonic_mean(er: float, adj: float, want: float) -> None:
    assert float(erasing_retention_balance(er, adj)) == pytest.approx(want)


def test_top1_and_the_mean_over_concepts_not_pictures() -> None:
    odds = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    assert top1(odds, 0).tolist() == [True, False, True]
    hits = [np.array([True, True, True, True]), np.array([False, True])]
    assert mean_accuracy(hits) == pytest.approx(75.0)  # over pictures it would be 83.3
    assert np.isnan(mean_accuracy([]))


def test_the_bootstrap_resamples_pictures_and_is_seeded() -> None:
    hits = [np.array([True, False] * 50), np.array([True] * 100)]
    one, two = (bootstrap_means(hits, 4000, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(one, two)
    assert one.mean() == pytest.approx(75, abs=0.2)
    # Only the first concept varies: its standard error is 5 points, halved by the mean over two concepts.
    assert one.std() == pytest.approx(2.5, abs=0.15)
    lo, hi = interval(one)
    assert lo == pytest.approx(75 - 1.96 * 2.5, abs=0.6) and hi == pytest.approx(75 + 1.96 * 2.5, abs=0.6)


def test_certain_outcomes_have_no_spread() -> None:
    assert interval(bootstrap_means([np.array([True] * 8)], 100, np.random.default_rng(0))) == [100, 100]


def test_confusion_counts_what_pictures_became() -> None:
    odds = np.eye(3)[[0, 1, 1, 2, 1]]
    found = confusion(odds, ["a", "b", "c"])
    assert [(f["becomes"], f["count"], f["share"]) for f in found] == [
        ("b", 3, 60.0),
        ("a", 1, 20.0),
        ("c", 1, 20.0),
    ]
    with pytest.raises(EvaluationError):
        confusion(np.empty((0, 3)), ["a", "b", "c"])


def test_ssim_is_scikit_images() -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    b = np.clip(a.astype(int) + rng.integers(-60, 60, a.shape), 0, 255).astype(np.uint8)
    want = [
        structural_similarity(x, y, channel_axis=2, win_size=7, data_range=255)
        for x, y in zip(a, b, strict=True)
    ]
    # scikit-image crops the border where its window leaves the picture; so do we.
    assert ssim(a, b) == pytest.approx(want, abs=1e-6)
    assert ssim(a, a) == pytest.approx(np.ones(3))
    assert ssim(a, 255 - a).mean() < 0.1


def test_ssim_does_not_depend_on_how_many_pictures_are_compared_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    a, b = np.random.default_rng(0).integers(0, 256, (2, 5, 16, 16, 3), dtype=np.uint8)
    whole = ssim(a, b)
    monkeypatch.setattr(similarity, "AT_ONCE", 2 * a[0].size)
    assert ssim(a, b) == pytest.approx(whole, rel=1e-12) and len(whole) == len(set(whole)) == 5
    assert len(ssim(a[:0], b[:0])) == 0


def test_the_rest_is_one_order_for_all_targets() -> None:
    world = Vocabulary(tuple(Concept(f"c{i}", "") for i in range(30)))
    first = rest_sample(world, ["c0", "c1"], 10, seed=7)
    other = rest_sample(world, ["c2"], 10, seed=7)
    assert len(first) == 10 and not {"c0", "c1"} & set(first)
    assert len(set(first) & set(other)) >= 8  # shared pictures: only the taken concepts may differ
    assert rest_sample(world, [], 10, seed=8) != rest_sample(world, [], 10, seed=7)
