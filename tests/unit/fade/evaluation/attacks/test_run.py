"""One attack under one condition, and the two numbers counted by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fade.config import AttackConfig
from fade.errors import UnknownNameError
from fade.evaluation.attacks import AttackContext
from fade.evaluation.attacks.run import run_attack, summary


def condition(**success: float) -> dict[str, dict[str, Any]]:
    return {
        name: {"success": value, "n": 4, "unet_calls": 10, "facts": {}} for name, value in success.items()
    }


def test_the_summary_is_the_one_counted_by_hand() -> None:
    conditions = {
        "erased": condition(inversion=75.0, tokens=0.0, noised=50.0, revival=25.0),
        "base": condition(inversion=100.0, tokens=25.0, noised=75.0, revival=100.0),
        "control": condition(inversion=0.0, tokens=25.0, noised=25.0, revival=0.0),
    }
    found = summary("panda", "rose", AttackConfig(), conditions)
    assert found["A_adv"] == 100 - (75 + 0 + 50 + 25) / 4 and (found["A_adv_worst"], found["worst"]) == (
        25.0,
        "inversion",
    )
    assert found["A_adv_heldout"] == 100 - (0 + 25) / 2  # tokens and revival
    assert {name: row["excess"] for name, row in found["attacks"].items()} == {
        "inversion": 75.0, "tokens": -25.0, "noised": 25.0, "revival": 25.0,
    }  # fmt: skip
    assert found["toothless"] == ["tokens"] and found["unet_calls"] == 3 * 4 * 10
    assert found["attacks"]["noised"]["unet_calls"] == {"erased": 10, "base": 10, "control": 10}


def test_without_a_held_out_attack_there_is_no_number_of_them() -> None:
    conditions = {name: condition(inversion=50.0) for name in ("erased", "base", "control")}
    assert summary("panda", "rose", AttackConfig(names=("inversion",)), conditions)["A_adv_heldout"] is None


def test_one_attack_is_counted_and_its_result_is_json(subject: AttackContext) -> None:
    row = run_attack(subject, "noised")
    assert json.loads(json.dumps(row)) == row
    assert set(row) == {"success", "n", "unet_calls", "facts"} and row["n"] % subject.config.images == 0
    assert row["unet_calls"] > 0 and 0.0 <= row["success"] <= 100.0


def test_what_cannot_be_run_is_refused(subject: AttackContext) -> None:
    with pytest.raises(UnknownNameError, match="'inversoin'") as caught:
        run_attack(subject, "inversoin")
    assert caught.value.exit_code == 2
