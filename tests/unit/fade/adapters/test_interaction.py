"""What is predicted of a release is what its definition gives on the very states, and a sentence names what
breaks first and what is in its way."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fade.adapters.interaction import (
    Costs,
    breaks_first,
    by_group,
    disturbers,
    residuals,
    without_neighbours,
)
from fade.adapters.solve import Change

D, OUT = 6, 5
LAYERS = ("k", "v")


def rows(seed: int, n: int, wide: int = D) -> Tensor:
    return torch.randn(n, wide, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def changes(seed: int, rank: int = 2) -> dict[str, Change]:
    return {name: (rows(seed + i, OUT, rank), rows(seed + 50 + i, rank)) for i, name in enumerate(LAYERS)}


def response(some: dict[str, Change], states: Tensor) -> Tensor:
    """What all layers put out for the states, side by side; a layer that is not changed puts out nothing."""
    zero = torch.zeros(len(states), OUT, dtype=torch.float64)
    parts = [states @ (some[name][0] @ some[name][1]).T if name in some else zero for name in LAYERS]
    return torch.cat(parts, 1)


def test_a_residual_is_the_share_of_the_champions_change_on_its_own_states() -> None:
    states, own, share, whole, stored = rows(1, 9), changes(2), changes(3), changes(4, 3), changes(5, 1)
    del share["v"]
    moment = states.T @ states / len(states)
    (found,) = residuals(stored, whole, [share], [own], [moment])
    size = response(own, states).norm()
    for name, a, b in (
        ("residual", stored, own),
        ("without_rank", whole, own),
        ("missing", share, own),
        ("foreign", whole, share),
    ):
        expected = float((response(a, states) - response(b, states)).norm() / size)
        assert found[name] == pytest.approx(expected, rel=1e-4), name
    assert len({*found.values()}) == 4
    (none,) = residuals(stored, whole, [{}], [{}], [moment])
    assert {*none.values()} == {0.0}  # a champion that changes no such layer misses nothing there


def test_a_cost_is_how_far_the_layers_output_moves_in_percent() -> None:
    weights = {name: rows(20 + i, OUT) for i, name in enumerate(LAYERS)}
    states, shares = rows(1, 4), {"panda": changes(2), "tulip": {"k": changes(3)["k"]}, "none": {}}
    release = changes(7, 3)
    found = Costs.of(release, shares, weights).of_states(states)
    size = torch.cat([states @ weight.T for weight in weights.values()], 1).norm()
    percent = {name: float(100 * response(one, states).norm() / size) for name, one in shares.items() if one}
    assert found["of"] == pytest.approx(percent, rel=1e-4)
    assert found["total"] == pytest.approx(float(100 * response(release, states).norm() / size), rel=1e-4)


def predicted(**erased: dict[str, float]) -> dict[str, Any]:
    one = {"residual": 0.1, "without_rank": 0.1, "missing": 0.05, "foreign": 0.05}
    of = {"panda": 40.0, "bear": 9.0, "koala": 8.0, "far": 0.5}
    return {
        "rank": 4,
        "erased": {name: {**one, **numbers} for name, numbers in erased.items()},
        "cost": {"panda": {"group": "erased", "total": 45.0, "of": of}},
    }


def test_the_worst_is_named_with_what_is_in_its_way() -> None:
    far = {"residual": 0.6, "without_rank": 0.6}
    found = predicted(panda={**far, "foreign": 0.5}, lemon={"residual": 0.3}, tulip={})
    assert breaks_first(found, 0.25) == (
        "'panda' breaks first: 60 % of its champion's change is missing or is of other champions (at most "
        "25 %), because there is no room beside 'bear' and 'koala'; so do 'lemon'."
    )
    assert disturbers(found, "panda") == ["bear", "koala"]  # not itself, and not one of a tenth
    assert "no room beside what must stay" in breaks_first(predicted(panda={**far, "missing": 0.6}), 0.25)
    low = breaks_first(predicted(panda={"residual": 0.6}, tulip={}), 0.25)
    assert "because the rank 4 is too low for 2 champions" in low
    assert breaks_first(found, 0.6) == ""
    many = predicted(**{f"thing {i}": {"residual": 0.3 + i / 100} for i in range(6)})
    assert breaks_first(many, 0.25).startswith("'thing 5' breaks first")
    assert breaks_first(many, 0.25).endswith("so do 'thing 4', 'thing 3', 'thing 2' and 2 more.")


def test_an_erased_concept_without_a_neighbour_that_stays_is_found() -> None:
    near = {"panda": ["bear"], "bear": ["panda", "koala"], "lemon": []}
    assert without_neighbours(near, ["panda", "bear", "lemon"]) == ["panda"]


def test_groups_have_the_mean_and_the_largest_cost() -> None:
    costs = {"a": ("used", 1.0), "b": ("measured", 5.0), "c": ("used", 2.0)}
    table = {"cost": {name: {"group": group, "total": total} for name, (group, total) in costs.items()}}
    assert by_group(table) == {
        "used": {"concepts": 2, "mean": 1.5, "largest": 2.0},
        "measured": {"concepts": 1, "mean": 5.0, "largest": 5.0},
    }
