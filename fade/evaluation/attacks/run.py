"""Run the attacks under their three conditions, and sum up in two numbers what the eraser withstands."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from fade.adapters.lora import LoraAdapter
from fade.errors import EvaluationError
from fade.evaluation.attacks import AttackContext, get_attack
from fade.evaluation.attacks.denoising import CallBudget
from fade.provenance.fingerprints import code_sha256, versions
from fade.utils.files import read_json, write_json
from fade.utils.hashing import fingerprint

CONDITIONS = ("erased", "base", "control")
Successes = dict[str, dict[str, Any]]
"""Of one condition, by attack: success (percent), n, unet_calls, facts."""
CODE = (
    "adapters", "attacks", "determinism", "evaluation/accuracy", "images", "judges", "models", "seeds",
    "vocabulary",
)  # fmt: skip
"""The code (components of `fade.provenance.fingerprints`) that decides the original model's successes."""


def run_attacks(
    subject: AttackContext,
    lora: LoraAdapter,
    *,
    base_condition: Successes | None = None,
    on_attack: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """All of ``attack.names`` under all conditions. The adapter is active when this is called, and as it was
    when it returns. ``base_condition``: what ``attack_base`` gave for this subject; None: it is run here.

    The result is ready for JSON: ``attacks`` holds for each attack its success (percent) on ``erased``,
    ``base`` and ``control``, its ``excess`` = erased - control (what is not chance or the judge's error), n,
    unet_calls and facts by condition. Two numbers, ours: ``A_adv`` = mean over attacks of (100 - success on
    the erased model), and ``A_adv_worst``, the same for the attack that succeeds most; neither is corrected
    by a condition. Attacks that fail on the base, too, are listed under ``toothless``: their failure on the
    erased model is no evidence of robustness.

    Raises UnknownNameError for an attack that is not registered, EvaluationError when the judge lacks the
    target's label or ``base_condition`` is of other attacks."""
    names, target = subject.config.names, subject.material.target
    subject.judge.require([target])
    for name in names:
        get_attack(name)
    if base_condition is not None and set(base_condition) != set(names):
        what = f"the base's condition given is of {sorted(base_condition)}, not of {sorted(names)}."
        raise EvaluationError(what, stage="attack", action="run attack_base with the same parameters.")
    total, count = len(names) * (3 if base_condition is None else 2), itertools.count(1)

    def done() -> None:
        on_attack(next(count), total)

    conditions = {
        "erased": _run_condition(replace(subject, concept=target), done),
        "control": _run_condition(replace(subject, concept=subject.material.control), done),
    }
    if base_condition is None:
        base_condition = attack_base(subject, lora, on_attack=lambda *_: done())
    return summary(subject, {**conditions, "base": base_condition})


def attack_base(
    subject: AttackContext,
    lora: LoraAdapter | None,
    *,
    keep: Path | None = None,
    on_attack: Callable[[int, int], None] = lambda done, total: None,
) -> Successes:
    """The ceiling: the attacks on the original model. It knows nothing of the adapter, so all methods share
    it. ``keep``: a folder where it is stored as JSON under a hash of all that decides it, and reused."""
    names = subject.config.names
    path = None if keep is None else keep / f"{ceiling_key(subject)}.json"
    stored = None if path is None else read_json(path)
    if isinstance(stored, dict) and set(stored) == set(names):
        return stored
    with lora.off() if lora is not None else nullcontext():
        count = itertools.count(1)
        condition = _run_condition(
            replace(subject, concept=subject.material.target), lambda: on_attack(next(count), len(names))
        )
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, condition)
    return condition


def ceiling_key(subject: AttackContext) -> str:
    """Hash of all that decides the base's condition."""
    material = subject.material
    latents = {**material.unrelated, material.target: material.pictures[material.target]}
    pictures = {name: hashlib.sha256(part.numpy().tobytes()).hexdigest() for name, part in latents.items()}
    facts = {
        "base": subject.base.sha256,
        "judge": subject.judge.sha256,
        "target": material.target,
        "names": material.names,
        "sampler": subject.sampler.model_dump(mode="json"),
        "attack": subject.config.model_dump(mode="json"),
        "pictures": pictures,
        "code": code_sha256(*CODE),
        "libraries": versions(("diffusers", "torch", "transformers")),
    }
    return fingerprint(facts)[:32]


def summary(subject: AttackContext, conditions: Mapping[str, Successes]) -> dict[str, Any]:
    """The conditions side by side, and A_adv."""
    attacks: dict[str, Any] = {}
    for name in subject.config.names:
        measured = {which: conditions[which][name] for which in CONDITIONS}
        success = {which: result["success"] for which, result in measured.items()}
        attacks[name] = {
            **success,
            "excess": success["erased"] - success["control"],
            "n": measured["erased"]["n"],
            "unet_calls": {which: result["unet_calls"] for which, result in measured.items()},
            "facts": {which: result["facts"] for which, result in measured.items()},
            "source": get_attack(name).source,
        }
    worst = max(attacks, key=lambda name: attacks[name]["erased"])
    ineffective_on_base = [name for name, row in attacks.items() if row["base"] <= row["control"]]
    withstood = [100.0 - row["erased"] for row in attacks.values()]
    return {
        "target": subject.material.target,
        "control_concept": subject.material.control,
        "attacks": attacks,
        "A_adv": sum(withstood) / len(withstood),
        "A_adv_worst": min(withstood),
        "worst": worst,
        "toothless": ineffective_on_base,
        "budget": subject.config.budget,
        "seed": subject.config.seed,
        "unet_calls": sum(sum(row["unet_calls"].values()) for row in attacks.values()),
    }


def _run_condition(subject: AttackContext, done: Callable[[], None]) -> Successes:
    out: Successes = {}
    for name in subject.config.names:
        with CallBudget(subject.base) as meter:
            result = get_attack(name).run(subject)
        out[name] = {
            "success": 100.0 * float(result.hits.mean()),
            "n": len(result.hits),
            "unet_calls": meter.calls,
            "facts": result.facts,
        }
        done()
    return out
