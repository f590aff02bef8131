"""How good a judge is on pictures that are held out: accuracy, look-alikes, calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

BINS = 15
"""Of equal width, for the calibration error (Guo et al., On Calibration of Modern Neural Networks, 2017)."""
PAIRS = 20
"""Most confused pairs that are listed."""


def measure(probabilities: np.ndarray, targets: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
    """Numbers for JSON, shares and errors in percent.

    probabilities: (n, L) of pictures whose labels are ``targets`` (n,). ``per_class``: every label, ``top1``
    None for one without a picture. ``confused``: pairs of labels by the share of their pictures that are
    taken for the other one."""
    guesses, n = probabilities.argmax(1), len(targets)
    matrix = confusion_matrix(guesses, targets, len(labels))
    counts = matrix.sum(1)
    hits = guesses == targets
    return {
        "n": n,
        "top1": 100.0 * float(hits.mean()),
        "mean_of_classes": 100.0 * float((matrix.diagonal()[counts > 0] / counts[counts > 0]).mean()),
        "calibration_error": calibration_error(probabilities.max(1), hits),
        "mean_confidence": 100.0 * float(probabilities.max(1).mean()),
        "per_class": [
            {
                "concept": label,
                "n": int(counts[i]),
                "top1": 100.0 * float(matrix[i, i] / counts[i]) if counts[i] else None,
            }
            for i, label in enumerate(labels)
        ],
        "confused": confused_pairs(matrix, labels),
    }


def confusion_matrix(guesses: np.ndarray, targets: np.ndarray, labels: int) -> np.ndarray:
    """(L, L): pictures of the row's label that are taken for the column's."""
    matrix: np.ndarray = np.zeros((labels, labels), np.int64)
    np.add.at(matrix, (targets, guesses), 1)
    return matrix


def confused_pairs(matrix: np.ndarray, labels: Sequence[str], most: int = PAIRS) -> list[dict[str, Any]]:
    """The pairs whose pictures are most often taken for each other's, by falling share."""
    wrong = matrix + matrix.T
    pictures = matrix.sum(1)
    pairs: list[dict[str, Any]] = []
    for i, j in zip(*np.nonzero(np.triu(wrong, 1)), strict=True):
        of = int(pictures[i] + pictures[j])
        share = 100.0 * float(wrong[i, j]) / of
        pairs.append(
            {"concepts": [labels[i], labels[j]], "mistakes": int(wrong[i, j]), "n": of, "share": share}
        )
    pairs.sort(key=lambda pair: (-pair["share"], -pair["mistakes"], pair["concepts"]))
    return pairs[:most]


def calibration_error(confidences: np.ndarray, hits: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error, percent: the mean over pictures of what separates the share of hits from
    the mean confidence within a bin. confidences (n,) of the top label, hits (n,) bool."""
    place = np.minimum((confidences * bins).astype(int), bins - 1)
    error = 0.0
    for one in np.unique(place):
        inside = place == one
        error += float(inside.sum()) * abs(float(hits[inside].mean()) - float(confidences[inside].mean()))
    return 100.0 * error / len(hits)
