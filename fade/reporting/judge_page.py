"""The picture of a judge's mistakes: which concepts are taken for which."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fade.reporting.svg import Chart, rect, text
from fade.reporting.theme import shortened, width_of

MOST = 24
"""Concepts that are shown: those with the largest share of mistakes, with what they are taken for."""
CELL, MARGIN = 25.0, 14.0
DEEPEST = 0.6
MAX_LABEL = 30


def confusion_chart(matrix: np.ndarray, labels: Sequence[str], title: str) -> Chart:
    """A heat map of the concepts that are confused most, rows what is in the picture, columns what it is
    taken for, in percent of the row's pictures. matrix: (L, L) counts."""
    shown = most_confused(matrix)
    pictures = np.maximum(matrix.sum(1), 1)
    shares = 100.0 * matrix[np.ix_(shown, shown)] / pictures[shown][:, None]
    names = [shortened(labels[i], MAX_LABEL) for i in shown]
    longest = max((width_of(name, 11.5) for name in names), default=0.0)
    left, top = MARGIN + longest + 8, 56.0
    side = CELL * len(shown)
    body = [text(MARGIN, 26, title, "title")]
    for i, name in enumerate(names):
        y, x = top + CELL * i, left + CELL * i
        body.append(text(left - 8, y + CELL / 2 + 4, name, "name end"))
        body.append(text(x + CELL / 2 + 4, top + side + 14, name, "name end", turned=-42))
    for (i, j), share in np.ndenumerate(shares):
        x, y = left + CELL * j, top + CELL * i
        body.append(rect(x, y, CELL - 1, CELL - 1, "target" if i != j else "rest", opacity=_depth(share)))
        if share >= 0.5:
            body.append(text(x + CELL / 2, y + CELL / 2 + 3.5, f"{share:.0f}", "cell middle"))
    note = (
        f"% of a row's held-out pictures; the {len(shown)} concepts of {len(labels)} that are confused most"
    )
    height = top + side + 22 + longest * math.sin(math.radians(42))
    body.append(text(MARGIN, height + 8, note, "small"))
    width = max(left + side, MARGIN + width_of(title, 15, bold=True), MARGIN + width_of(note, 11)) + MARGIN
    return Chart(width, height + 12 + MARGIN, body)


def most_confused(matrix: np.ndarray, most: int = MOST) -> list[int]:
    """The labels of the largest mistakes in both directions, at most ``most``, in the order of the labels;
    of a judge without mistakes the first ones."""
    pictures = np.maximum(matrix.sum(1), 1)
    wrong = matrix / pictures[:, None]
    wrong = (wrong + wrong.T) * ~np.eye(len(matrix), dtype=bool)
    chosen: dict[int, None] = {}
    for place in np.argsort(-np.triu(wrong), axis=None, kind="stable"):
        pair = divmod(int(place), len(matrix))
        if len(chosen) >= most or not wrong[pair]:
            break
        if len(chosen.keys() | set(pair)) <= most:
            chosen.update(dict.fromkeys(pair))
    return sorted(chosen) or list(range(min(most, len(matrix))))


def _depth(share: float) -> float:
    """Opacity of a share in percent; the root, so that a few percent are visible."""
    return DEEPEST * math.sqrt(share / 100)
