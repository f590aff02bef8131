"""No training and no choice of settings sees the attacks that are held out."""

from __future__ import annotations

from typing import Any

import grimp
import pytest

from fade.benchmark.tuning import trial_of
from fade.evaluation.attacks import get_attack, known_attacks
from tests.unit.fade.benchmark.cells import numbers

TRAINING = ("fade.erasers", "fade.training", "fade.mining", "fade.jobs.train", "tasks.stages.train")
"""All that runs between a target's name and its adapter."""
HELD_OUT = {"tokens", "revival"}


@pytest.fixture(scope="module")
def graph() -> Any:
    return grimp.build_graph("fade", "tasks", "flows")


def test_two_attacks_are_held_out() -> None:
    assert {name for name in known_attacks() if get_attack(name).held_out} == HELD_OUT


@pytest.mark.parametrize("module", TRAINING)
def test_no_training_imports_an_attack(graph: Any, module: str) -> None:
    parts = {module, *graph.find_descendants(module)}
    seen = {one for part in parts for one in graph.find_upstream_modules(part)}
    assert not {one for one in seen if one.startswith("fade.evaluation")}


def test_the_control_an_attack_job_imports_them(graph: Any) -> None:
    seen = graph.find_upstream_modules("fade.jobs.attack")
    assert {"fade.evaluation.attacks", "fade.evaluation.attacks.run"} <= seen


def test_no_attack_moves_a_trials_score() -> None:
    def score(success: float) -> float:
        attacks = {"tokens": {"erased": success}, "revival": {"erased": success}}
        record = {"numbers": numbers(90, 80, 70, base=100), "attacks": {"attacks": attacks}}
        return float(trial_of(["train.lr=0.1"], {"panda": record})["score"])

    assert score(0.0) == score(100.0) > 0
