"""The closed form is the least-squares solution that it is said to be, and its rank the smallest that holds
it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fade.adapters.moments import mean_moment
from fade.adapters.solve import compressed, solve, total
from fade.errors import AdapterError

D, OUT, KEEP, RIDGE = 6, 5, 3.0, 0.02
LAYERS = ("k", "v")


def rows(seed: int, n: int, wide: int = D) -> Tensor:
    return torch.randn(n, wide, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def problem() -> dict[str, Any]:
    """States and changes of three champions, one of which lacks a layer; and kept states."""
    states = [rows(seed, n) for seed, n in ((1, 4), (2, 7), (3, 2))]
    changes = [
        {name: (rows(10 * i + j, OUT, 2), rows(100 * i + j, 2)) for j, name in enumerate(LAYERS)}
        for i in range(1, 4)
    ]
    del changes[2]["v"]
    return {"states": states, "changes": changes, "kept": rows(4, 20)}


def moment(states: Tensor) -> Tensor:
    return states.T @ states / len(states)


def test_it_is_the_least_squares_solution(problem: dict[str, Any]) -> None:
    states, changes, kept = problem["states"], problem["changes"], problem["kept"]
    moments = [moment(some) for some in states]
    shares = solve(changes, moments, moment(kept), keep=KEEP, ridge=RIDGE)
    ridge = RIDGE * moment(kept).trace() / D
    for layer in LAYERS:
        left = [some / len(some) ** 0.5 for some in states]
        goal = [
            some @ (change[layer][0] @ change[layer][1]).T if layer in change else torch.zeros(len(some), OUT)
            for some, change in zip(left, changes, strict=True)
        ]
        left += [(KEEP / len(kept)) ** 0.5 * kept, ridge**0.5 * torch.eye(D)]
        goal += [torch.zeros(len(kept), OUT), torch.zeros(D, OUT)]
        expected = torch.linalg.lstsq(torch.cat(left), torch.cat(goal).double()).solution.T
        up, down = total(shares, layer)
        assert torch.allclose(up @ down, expected, atol=1e-10)
    plain = sum(change["k"][0] @ change["k"][1] for change in changes)
    up, down = total(shares, "k")
    assert not torch.allclose(up @ down, plain, atol=1e-3)  # the control: not the sum


def test_one_champion_with_nothing_to_keep_and_no_ridge_is_itself(problem: dict[str, Any]) -> None:
    whole = rows(7, 30)  # its states fill the space
    shares = solve(problem["changes"][:1], [moment(whole)], moment(whole), keep=0.0, ridge=1e-14)
    for layer in LAYERS:
        (up, down), (own_up, own_down) = total(shares, layer), problem["changes"][0][layer]
        assert torch.allclose(up @ down, own_up @ own_down, atol=1e-9)


def test_a_ridge_that_is_too_small_for_a_solution_is_named(problem: dict[str, Any]) -> None:
    few = rows(8, 2)  # two states: no inverse in six dimensions
    with pytest.raises(AdapterError, match="release.ridge 1e-300 is too small") as caught:
        solve(problem["changes"][:1], [moment(few)], moment(few), keep=0.0, ridge=1e-300)
    assert caught.value.action


def test_moments_are_read_one_at_a_time(problem: dict[str, Any]) -> None:
    class OneByOne(list):  # type: ignore[type-arg]
        def __iter__(self) -> Any:
            raise AssertionError("all moments at once")

    moments = OneByOne(moment(some) for some in problem["states"])
    solve(problem["changes"], moments, moment(problem["kept"]), keep=KEEP, ridge=RIDGE)


def test_a_moment_accumulated_in_parts_is_the_direct_one() -> None:
    states = rows(5, 23)
    parts = mean_moment(iter(states.split(4)))
    assert torch.allclose(parts, moment(states), atol=1e-14)
    assert not torch.allclose(parts, mean_moment(iter(states[:20].split(4))), atol=1e-3)


def test_the_rank_is_the_smallest_that_holds_the_change_and_the_rest_is_told() -> None:
    up, down = rows(1, OUT, 3), rows(2, 3)
    doubled = torch.cat([up, up], 1), torch.cat([down, down])  # six columns, rank three
    (wide, narrow), lost = compressed(doubled, tolerance=1e-9)
    assert wide.shape == (OUT, 3) and narrow.shape == (3, D) and lost < 1e-9
    assert torch.allclose(wide @ narrow, 2 * up @ down, atol=1e-12)
    (wide, narrow), lost = compressed(doubled, tolerance=1e-9, rank=2)
    values = torch.linalg.svdvals(2 * up @ down)
    assert narrow.shape == (2, D)
    assert lost == pytest.approx(float(values[2] / values[:3].norm()), rel=1e-9)
    assert float((2 * up @ down - wide @ narrow).norm()) == pytest.approx(float(values[2]), rel=1e-9)
    largest = narrow.gather(1, narrow.abs().argmax(1, keepdim=True))
    assert bool((largest > 0).all())


def test_a_rank_beyond_the_width_and_no_change_at_all_are_held() -> None:
    up, down = rows(1, OUT, 9), rows(2, 9)  # more directions than the layer has
    (wide, narrow), lost = compressed((up, down), tolerance=1e-9)
    assert narrow.shape == (OUT, D) and lost < 1e-9 and torch.allclose(wide @ narrow, up @ down, atol=1e-10)
    (wide, narrow), lost = compressed((0 * up, 0 * down), tolerance=1e-9)
    assert narrow.shape == (1, D) and lost == 0 and not bool((wide @ narrow).any())
