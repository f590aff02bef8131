"""The picture of a release: three blocks, a line a concept."""

from __future__ import annotations

import numpy as np
import pytest

from fade.errors import EvaluationError
from fade.reporting.canvas import SCALE
from fade.reporting.release import Trio, trios
from tests.unit.fade.reporting.samples import pictures


def trio(concept: str, by: str, colour: tuple[int, int, int] = (255, 0, 0)) -> Trio:
    plain = np.full((3, 16, 16, 3), colour, np.uint8)
    return Trio(concept, "target", pictures(), plain, pictures(seed=1), by)


def share(image: object, colour: tuple[int, int, int]) -> float:
    return float((np.asarray(image) == colour).all(-1).mean())


def test_every_model_has_its_block_and_every_champion_its_rule() -> None:
    one = trios([trio("panda", "fade-panda/1"), trio("bear", "fade-panda/1")])
    two = trios([trio("panda", "fade-panda/1"), trio("lemon", "fade-lemon/2")])
    assert one.width == two.width and two.height == one.height + 24 * SCALE
    side = 76 * SCALE
    whole = 2 * 3 * side * side / (one.width * one.height)
    assert (
        0.85 * whole < share(one, (255, 0, 0)) < whole
    )  # all of the second block but round corners and hairlines


def test_nothing_to_draw_is_said() -> None:
    with pytest.raises(EvaluationError, match="no pictures to draw"):
        trios([])
