"""Accuracy, look-alikes and calibration against numbers that are computed by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fade.judges.measure import calibration_error, measure

LABELS = ["panda", "koala", "tulip", "rose"]


def odds(*guesses: int, sure: float = 0.7) -> np.ndarray:
    made = np.full((len(guesses), 4), (1 - sure) / 3)
    made[np.arange(len(guesses)), list(guesses)] = sure
    return made


def test_accuracy_and_look_alikes() -> None:
    targets = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    numbers = measure(odds(0, 0, 1, 1, 1, 0, 2, 2), targets, LABELS)
    assert numbers["n"] == 8 and numbers["top1"] == 62.5
    assert numbers["mean_of_classes"] == pytest.approx((50 + 50 + 100) / 3)
    assert [row["top1"] for row in numbers["per_class"]] == [50, 50, 100, None]
    assert numbers["confused"] == [{"concepts": ["panda", "koala"], "mistakes": 3, "n": 6, "share": 50.0}]
    json.dumps(numbers, allow_nan=False)


def test_calibration() -> None:
    assert calibration_error(np.array([1.0, 1.0]), np.array([True, True])) == 0
    assert calibration_error(np.array([0.9] * 4), np.array([True, False] * 2)) == pytest.approx(40)
    two_bins = calibration_error(np.array([0.9, 0.3]), np.array([True, False]))
    assert two_bins == pytest.approx(100 * (0.1 + 0.3) / 2)
