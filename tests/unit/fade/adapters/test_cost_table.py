"""The costs of a release of some of the champions, from the table of all of them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fade.adapters.interaction import CostTable
from fade.adapters.release import predict_release
from tests.unit.fade.adapters.text_model import champion, settings, text_model

NAMES = ("lemon", "panda", "tulip")


def row(total: float, **of: float) -> dict[str, Any]:
    return {"group": "used", "total": total, "of": of}


def test_the_recorded_total_and_each_share_alone_are_given_back() -> None:
    cost = {"koala": row(5.0, panda=3.0, lemon=4.0), "rose": row(7.0, panda=3.0, lemon=4.0)}
    cost |= {"bear": row(1.0, panda=3.0, lemon=4.0), "far": row(0.0)}
    table = CostTable(cost, [*cost], ["lemon", "panda"])
    # orthogonal, along and against each other
    assert table.moved(["lemon", "panda"]) == pytest.approx([5.0, 7.0, 1.0, 0.0])
    assert table.moved(["panda"]) == pytest.approx([3.0, 3.0, 3.0, 0.0])
    assert table.ratio(["panda"]) == pytest.approx([0.6, 3 / 7, 3.0, 1.0])
    assert table.ratio([]) == pytest.approx([0.0, 0.0, 0.0, 1.0])  # of the last nothing is predicted


def test_of_an_erased_concept_only_what_the_others_move_counts() -> None:
    cost = {"panda": row(math.hypot(40.0, 3.0), panda=40.0, lemon=3.0)}
    cost["pear"] = row(2.0, lemon=2.0, panda=0.0)
    table = CostTable({**cost}, ["panda", "pear"], ["panda", "lemon"])
    assert table.moved(["panda", "lemon"]) == pytest.approx([3.0, 2.0])
    joint = CostTable({"panda": row(9.0, **{"lemon + panda": 9.0})}, ["panda"], ["lemon + panda"])
    assert joint.moved(["lemon + panda"]) == pytest.approx([0.0]) and joint.erases.all()


def test_the_costs_of_two_of_three_are_near_those_of_the_release_of_the_two(tmp_path: Path) -> None:
    """Against the costs that the adapters of the two have, and as a control against their numbers' sum."""
    paths = {name: champion(tmp_path, name) for name in NAMES}

    def cost(names: tuple[str, ...]) -> dict[str, Any]:
        chosen = [paths[name] for name in names]
        return dict(predict_release(text_model(), chosen, settings(names, mode="sum"))["cost"])

    of_three, of_two = cost(NAMES), cost(NAMES[:2])
    kept = [name for name in of_two if name not in NAMES]
    true = np.array([of_two[name]["total"] for name in kept])
    found = CostTable(of_three, kept, NAMES).moved(NAMES[:2])
    added_up = np.array([sum(of_two[name]["of"].values()) for name in kept])
    errors = [float(abs(some - true).mean() / true.mean()) for some in (found, added_up)]
    assert errors[0] < 0.15 and errors[0] < errors[1] / 2
