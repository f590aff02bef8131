"""bench/attacks.py: the budget is raised until an attack is one, on tuning targets alone."""

from __future__ import annotations

from typing import Any

import pytest

from fade.config import AttackConfig
from fade.run.resolve_params import load_params
from tests.support import bench_module


@pytest.fixture(scope="module")
def bench() -> Any:
    return bench_module("attacks")


def test_budgets_double_from_the_configured_one(bench: Any) -> None:
    config = AttackConfig()
    assert bench.budgets_of(config, "inversion", 4800) == [600, 1200, 2400, 4800]
    assert bench.budgets_of(config, "tokens", 599) == [600] == bench.budgets_of(config, "noised", 4800)


@pytest.mark.parametrize(
    ("found", "budget", "measured"),
    [
        ({600: (90, 70)}, 600, [600]),  # the mean is what counts
        ({600: (90, 69), 1200: (100, 60)}, 1200, [600, 1200]),
        ({600: (0, 0), 1200: (50, 50)}, None, [600, 1200]),
    ],
)
def test_the_budget_is_raised_until_the_mean_is_enough(
    bench: Any, found: dict[int, tuple[float, float]], budget: int | None, measured: list[int]
) -> None:
    seen: list[int] = []

    def success_at(attack: str, at: int, target: str) -> dict[str, float]:
        seen.append(at)
        return {"erased": found[at][("first", "second").index(target)], "base": 100.0, "control": 0.0}

    targets = ("first", "second")
    assert bench.least_budget("inversion", (600, 1200), targets, success_at) == budget
    assert list(dict.fromkeys(seen)) == measured


def test_its_targets_are_never_reported() -> None:
    params = load_params()
    assert params.bench.tuning and not {*params.bench.tuning} & {*params.bench.targets}


def test_the_table_has_a_row_a_budget_with_means_over_the_targets() -> None:
    tables = bench_module("tables")
    cells = {
        f"inversion | {budget} | {target}": {"erased": erased, "base": 100.0, "control": 0.0}
        for budget, target, erased in ((600, "a", 40.0), (600, "b", 60.0), (1200, "a", 90.0))
    }
    result = {"world": "", "method": "esd/x", "targets": ["a", "b"], "images": 12, "cells": cells}
    text = "\n".join(tables.attacks(result))
    assert (
        "| inversion | 600 | 50 | 100 | 0 | 2 |" in text
        and "| inversion | 1,200 | 90 | 100 | 0 | 1 |" in text
    )
    assert "`python bench/attacks.py --out bench/results/attacks.json`" in text
