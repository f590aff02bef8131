"""Grids: the right size, the right pictures at the right places, and no blank sheet."""

from __future__ import annotations

import numpy as np
import pytest

from fade.errors import EvaluationError
from fade.reporting import Row
from fade.reporting.canvas import DARK, LIGHT, SCALE, percent, tile, width_of, wrap
from fade.reporting.grids import GAP, LABEL, MARGIN, SCORE, before_after, strip
from tests.unit.fade.reporting import samples

SIDE = 20.0


def solid(colour: tuple[int, int, int], n: int) -> np.ndarray:
    return np.broadcast_to(np.array(colour, np.uint8), (n, 8, 8, 3)).copy()


def test_before_after_grows_by_a_line_a_concept_and_a_column_a_seed() -> None:
    rows = samples.report().rows
    accuracies = samples.report().accuracies()
    two, four = (
        before_after(rows[1:3], accuracies, "panda", side=SIDE),
        before_after([*rows[1:3]] * 2, accuracies, "panda", side=SIDE),
    )
    assert four.height - two.height == 2 * (SIDE + 11) * SCALE
    assert four.width == two.width
    wider = [Row(r.concept, r.role, samples.pictures(4), samples.pictures(4)) for r in rows[1:3]]
    assert before_after(wider, accuracies, "panda", side=SIDE).width - two.width == 2 * (SIDE + GAP) * SCALE


def test_base_stands_left_and_erased_right_in_the_order_of_the_seeds() -> None:
    base = np.concatenate([solid((200, 0, 0), 1), solid((0, 200, 0), 1)])
    erased = np.concatenate([solid((0, 0, 200), 1), solid((200, 200, 0), 1)])
    image = np.asarray(
        before_after([Row("panda", "target", base, erased)], {"panda": (100.0, 0.0)}, "panda", side=SIDE)
    )
    left = MARGIN + LABEL
    right = left + 2 * SIDE + GAP + SCORE + 18
    middle = round((122 + SIDE / 2) * SCALE)
    for x, colour in (
        (left, (200, 0, 0)),
        (left + SIDE + GAP, (0, 200, 0)),
        (right, (0, 0, 200)),
        (right + SIDE + GAP, (200, 200, 0)),
    ):
        assert tuple(image[middle, round((x + SIDE / 2) * SCALE)]) == colour


def test_blocks_of_unequal_length_and_no_rows_are_refused() -> None:
    with pytest.raises(EvaluationError, match=r"panda: 2 pictures before, 3 after"):
        before_after([Row("panda", "target", samples.pictures(2), samples.pictures(3))], {}, "panda")
    with pytest.raises(EvaluationError):
        before_after([], {}, "panda")


def test_themes_differ_and_hold_their_paper() -> None:
    rows, accuracies = samples.report().rows, samples.report().accuracies()
    for theme in (LIGHT, DARK):
        image = before_after(rows, accuracies, "panda", side=SIDE, theme=theme)
        assert "#{:02x}{:02x}{:02x}".format(*image.getpixel((0, 0))) == theme.paper


def test_strip_has_a_cell_a_member_and_leaves_out_what_has_no_picture() -> None:
    full = strip(samples.Neighborhood(), samples.report().mined, side=120)
    fewer = strip(
        samples.Neighborhood(),
        {k: v for k, v in samples.report().mined.items() if k != "hamster"},
        side=120,
        columns=11,
    )
    assert full.width == (2 * MARGIN + 4 * (120 + 14) - 14) * SCALE
    assert fewer.width == (2 * MARGIN + max(3 * (120 + 14) - 14, 460)) * SCALE
    folded = strip(samples.Neighborhood(), samples.report().mined, side=120, columns=2)
    assert folded.height - full.height == (120 + 86) * SCALE
    with pytest.raises(EvaluationError):
        strip(samples.Neighborhood(), {})


def test_long_names_break_and_end_in_an_ellipsis_but_never_overflow() -> None:
    lines = wrap("grinning cat with smiling eyes and incomprehensibilities", 12, 90, bold=True, lines=2)
    assert len(lines) == 2 and lines[-1].endswith("…")
    assert all(width_of(line, 12, bold=True) <= 90 for line in lines)
    assert wrap("fox", 12, 90) == ["fox"]


def test_small_and_large_pictures_become_square_tiles() -> None:
    for side in (8, 300):
        assert tile(samples.pictures(1, side=side)[0], 40).size == (40 * SCALE, 40 * SCALE)


@pytest.mark.parametrize(("value", "words"), [(100.0, "100 %"), (95.8333, "95.8 %"), (0.0, "0 %")])
def test_percent(value: float, words: str) -> None:
    assert percent(value) == words
