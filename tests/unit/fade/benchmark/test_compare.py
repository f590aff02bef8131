"""The bootstrap against cases that are known by hand, and against noise, which it must not take for a
difference."""

from __future__ import annotations

import numpy as np
import pytest

from fade.benchmark.compare import LEAST, _widening, compare, efficient, holm, spread


def grid(table: np.ndarray) -> dict[tuple[str, int], float]:
    return {(f"t{i}", j): float(v) for i, row in enumerate(table) for j, v in enumerate(row)}


def test_the_spread_of_a_table_counted_by_hand() -> None:
    found = spread(grid(np.array([[1.0, 3.0], [5.0, 7.0]])), 100)
    assert (found.mean, found.n, found.lo, found.hi) == (4.0, 4, None, None)
    assert (
        found.sd == pytest.approx(np.sqrt(20 / 3))
        and found.sd_targets == pytest.approx(np.sqrt(8))
        and found.sd_seeds == pytest.approx(np.sqrt(2))
    )
    alone = spread({("t", 0): 3.0}, 100)
    assert (alone.mean, alone.sd, alone.sd_targets, alone.sd_seeds) == (3.0, None, None, None)


def test_targets_count_the_same_however_many_of_their_seeds_are_there() -> None:
    found = spread({("a", 0): 0.0, ("a", 1): 0.0, ("a", 2): 0.0, ("b", 0): 8.0}, 10)
    assert found.mean == 4.0 and found.n == 4


def test_a_difference_is_paired_so_what_is_hard_for_both_cancels_out() -> None:
    rng = np.random.default_rng(0)
    hard = rng.normal(50, 30, (9, 3))
    found = compare(grid(hard + 2), grid(hard), 2000)
    assert found is not None and found.difference == pytest.approx(2) and (found.n, found.targets) == (27, 9)
    assert (
        found.lo == pytest.approx(2)
        and found.hi == pytest.approx(2)
        and found.p is not None
        and found.p < 0.01
    )
    unpaired = compare(grid(hard + 2), grid(hard[::-1]), 2000)
    assert unpaired is not None and unpaired.p is not None and unpaired.p > 0.2


def test_the_same_numbers_do_not_differ() -> None:
    table = grid(np.ones((9, 3)))
    found = compare(table, table, 500)
    assert found is not None and (found.difference, found.lo, found.hi, found.p) == (0.0, 0.0, 0.0, 1.0)


def test_the_sign_is_a_minus_b_and_p_has_none() -> None:
    rng = np.random.default_rng(1)
    a, b = grid(rng.normal(1, 0.5, (9, 3))), grid(np.zeros((9, 3)))
    there, back = compare(a, b, 2000), compare(b, a, 2000)
    assert there is not None and back is not None and there.difference == -back.difference > 0
    assert there.p == pytest.approx(back.p, abs=0.005)


def test_only_cells_that_both_have_are_compared() -> None:
    full = grid(np.arange(18.0).reshape(6, 3))
    part = {key: value - 1 for key, value in full.items() if key != ("t0", 2) and key[0] != "t5"}
    found = compare(full, part, 200)
    assert found is not None and (found.difference, found.n, found.targets) == (1.0, 14, 5)
    assert found.lo == pytest.approx(1) and found.hi == pytest.approx(1), "an empty place was drawn"
    assert compare(full, {}, 200) is None


@pytest.mark.parametrize("targets", range(1, LEAST))
def test_few_targets_have_no_interval_and_no_p(targets: int) -> None:
    found = compare(grid(np.full((targets, 3), 5.0)), grid(np.zeros((targets, 3))), 100)
    assert found is not None and (found.difference, found.lo, found.hi, found.p) == (5.0, None, None, None)


def rejected(of_targets: float, of_seeds: float, targets: int, trials: int = 800) -> float:
    """How often noise, of targets and of seeds within them, is taken for a difference at 5 %."""
    rng, zero = np.random.default_rng(2), grid(np.zeros((targets, 3)))
    tables = (
        rng.normal(0, of_targets, (targets, 1)) + rng.normal(0, of_seeds, (targets, 3)) for _ in range(trials)
    )
    return sum(f.p < 0.05 for t in tables if (f := compare(grid(t), zero, 400)) and f.p is not None) / trials


@pytest.mark.parametrize("targets", [LEAST, 9])
@pytest.mark.parametrize(("of_targets", "of_seeds"), [(1.0, 0.0), (1.0, 1.0), (0.0, 1.0)])
def test_noise_is_seldom_taken_for_a_difference(of_targets: float, of_seeds: float, targets: int) -> None:
    assert rejected(of_targets, of_seeds, targets) <= 0.075  # 5 %, and three standard errors of 800 trials


def test_control_without_its_widening_it_would_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fade.benchmark.compare._widening", lambda n: 1.0)
    assert rejected(1.0, 0.0, LEAST) > 0.1


def test_a_true_difference_is_found() -> None:
    rng, zero = np.random.default_rng(3), grid(np.zeros((9, 3)))
    found = [
        compare(grid(rng.normal(1.5, 1, (9, 1)) + rng.normal(0, 0.3, (9, 3))), zero, 400) for _ in range(50)
    ]
    assert sum(f.p < 0.05 for f in found if f and f.p is not None) >= 45


@pytest.mark.parametrize(("n", "t"), [(5, 2.7764), (6, 2.5706), (9, 2.3060), (14, 2.1604), (30, 2.0452)])
def test_the_widening_is_students(n: int, t: float) -> None:
    assert _widening(n) == pytest.approx(np.sqrt(n / (n - 1)) * t / 1.959964, rel=0.004)


def test_holm_by_hand() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "c": 0.06, "b": 0.06})
    assert holm({"a": 0.9, "b": 0.8}) == {"b": 1.0, "a": 1.0} and holm({}) == {}


def test_the_frontier_by_hand() -> None:
    points = {
        "a": (90.0, 90.0),
        "b": (95.0, 80.0),
        "worse than a": (90.0, 85.0),
        "c": (99.0, 10.0),
        "twin of a": (90.0, 90.0),
        "d": (0.0, 100.0),
    }
    assert efficient(points) == ["d", "a", "twin of a", "b", "c"]
    assert efficient({"only": (0.0, 0.0)}) == ["only"] and efficient({}) == []
