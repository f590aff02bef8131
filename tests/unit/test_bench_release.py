"""bench/release.py: its orders are seeded, and none of them holds a reported target."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.support import bench_module


@pytest.fixture(scope="module")
def bench() -> Any:
    return bench_module("release")


def test_the_orders_are_seeded_and_whole_whatever_the_order_of_the_names(bench: Any) -> None:
    names = [f"thing {i}" for i in range(40)]
    found = bench.orders(names, 3)
    assert found == bench.orders(names[::-1], 3) and len({tuple(order) for order in found}) == 3
    assert all(sorted(order) == sorted(names) for order in found)
    assert bench.orders(names, 3, seed=1) != found and bench.SIZES == (3, 6, 12, 24)


def test_what_is_reported_or_badly_drawn_is_in_no_order(bench: Any) -> None:
    names = ("koala", "panda", "pear")

    class Judge:
        """Takes every picture for a koala."""

        def __call__(self, pixels: Any) -> Any:
            return torch.eye(3)[[0] * len(pixels)]

        def index(self, name: str) -> int:
            return names.index(name)

    config = SimpleNamespace(seed=1, images_per_concept=2)
    pictures = SimpleNamespace(pixels=np.zeros((2, 4, 4, 3), np.uint8))
    run = SimpleNamespace(
        params=SimpleNamespace(neighborhood=config, sampler=SimpleNamespace(prompt="a {concept}")),
        vocabulary=SimpleNamespace(names=names),
        generator=SimpleNamespace(generate=lambda texts, seeds: dict.fromkeys(texts, pictures)),
        models=SimpleNamespace(judge=Judge()),
    )
    assert bench.well_drawn(run) == ["koala"]


def test_it_explains_itself(repo: Path) -> None:
    line = [sys.executable, "bench/release.py", "--help"]
    env = {"PYTHONPATH": str(repo), "PATH": ""}
    done = subprocess.run(line, cwd=repo, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "python bench/release.py --sizes" in done.stdout, done.stderr
