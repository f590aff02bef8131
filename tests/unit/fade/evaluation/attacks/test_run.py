"""Three conditions, one budget; the ceiling kept and shared; the two numbers counted by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fade.adapters.lora import LoraAdapter
from fade.errors import EvaluationError, UnknownNameError
from fade.evaluation.attacks import AttackContext
from fade.evaluation.attacks.run import attack_base, ceiling_key, run_attacks, summary


def condition(**success: float) -> dict[str, dict[str, Any]]:
    return {
        name: {"success": value, "n": 4, "unet_calls": 10, "facts": {}} for name, value in success.items()
    }


def test_the_summary_is_the_one_counted_by_hand(subject: AttackContext) -> None:
    conditions = {
        "erased": condition(inversion=75.0, tokens=0.0, noised=50.0, revival=25.0),
        "base": condition(inversion=100.0, tokens=25.0, noised=75.0, revival=100.0),
        "control": condition(inversion=0.0, tokens=25.0, noised=25.0, revival=0.0),
    }
    found = summary(subject, conditions)
    assert found["A_adv"] == 100 - (75 + 0 + 50 + 25) / 4 and (found["A_adv_worst"], found["worst"]) == (
        25.0,
        "inversion",
    )
    assert {name: row["excess"] for name, row in found["attacks"].items()} == {
        "inversion": 75.0, "tokens": -25.0, "noised": 25.0, "revival": 25.0,
    }  # fmt: skip
    assert found["toothless"] == ["tokens"] and found["unet_calls"] == 3 * 4 * 10
    assert found["attacks"]["noised"]["unet_calls"] == {"erased": 10, "base": 10, "control": 10}


@pytest.mark.parametrize("merged", [False, True])
def test_the_conditions_are_the_models_that_they_say(
    subject: AttackContext, lora: LoraAdapter, merged: bool
) -> None:
    subject = replace(subject, config=subject.config.model_copy(update={"names": ("inversion", "noised")}))
    if merged:
        lora.merge()
    ticks: list[tuple[int, int]] = []
    found = run_attacks(subject, lora, on_attack=lambda done, total: ticks.append((done, total)))
    assert ticks == [(i, 6) for i in range(1, 7)]
    lora.check_effect()
    loss = {
        which: found["attacks"]["inversion"]["facts"][which]["loss_before"]
        for which in ("erased", "base", "control")
    }
    assert len(set(loss.values())) == 3
    base = attack_base(subject, lora)
    assert run_attacks(subject, lora, base_condition=base) == found
    lora.remove()
    assert attack_base(subject, None) == base  # the plain model, to the last bit of its loss
    assert json.loads(json.dumps(found)) == found


def test_the_ceiling_is_kept_under_what_decides_it(subject: AttackContext, tmp_path: Path) -> None:
    subject = replace(subject, config=subject.config.model_copy(update={"names": ("noised",)}))
    made = attack_base(subject, None, keep=tmp_path / "new")
    (path,) = (tmp_path / "new").iterdir()
    assert json.loads(path.read_text()) == made and path.stem == ceiling_key(subject)
    path.write_text(json.dumps({"noised": {"success": -1.0}}))
    assert attack_base(subject, None, keep=tmp_path / "new")["noised"]["success"] == -1.0
    path.write_text("{")
    assert attack_base(subject, None, keep=tmp_path / "new") == made  # what cannot be read is made again
    changed = [
        replace(subject, config=subject.config.model_copy(update={"seed": 1})),
        replace(subject, sampler=subject.sampler.model_copy(update={"steps": 5})),
        replace(subject, material=replace(subject.material, target=subject.material.control)),
        replace(subject, material=replace(subject.material, pictures={"panda": subject.pictures + 1})),
    ]
    assert len({ceiling_key(each) for each in (subject, *changed)}) == 5


def test_what_cannot_be_run_is_said_before_anything_is(subject: AttackContext, lora: LoraAdapter) -> None:
    wrong = replace(subject, config=subject.config.model_copy(update={"names": ("noised", "inversoin")}))
    with pytest.raises(UnknownNameError, match="'inversoin'") as caught:
        run_attacks(wrong, lora)
    assert caught.value.exit_code == 2
    with pytest.raises(EvaluationError, match="base's condition"):
        run_attacks(subject, lora, base_condition=condition(noised=1.0))
