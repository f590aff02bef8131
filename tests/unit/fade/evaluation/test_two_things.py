"""A picture of two things becomes two pictures of one."""

from __future__ import annotations

import numpy as np
import pytest

from fade.evaluation.two_things import two_things


@pytest.mark.parametrize("turned", [False, True])
def test_two_things_side_by_side_or_one_above_the_other_are_shown_as_large_as_a_whole_picture(
    turned: bool,
) -> None:
    picture = np.full((64, 64, 3), 255, np.uint8)
    picture[20:40, 4:24] = (200, 0, 0)
    picture[10:40, 40:60] = (0, 0, 200)
    first, second = two_things(picture.transpose(1, 0, 2) if turned else picture)
    assert first.shape == second.shape == (64, 64, 3)
    assert (first[32, 32] == (200, 0, 0)).all() and (first[2:-2, 2:-2] != 255).any(-1).all()
    assert (second[32, 32] == (0, 0, 200)).all() and (second[2, 32] == 255).all() == turned
    assert (two_things(np.full((64, 64, 3), 255, np.uint8))[0] == 255).all()
