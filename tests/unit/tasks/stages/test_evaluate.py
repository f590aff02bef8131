"""What the evaluation says of its run: whether the neighbours that it judges were trained on."""

from __future__ import annotations

import contextlib
import json
import sys
from types import SimpleNamespace

import pytest

from fade.evaluation.gated import GatedGenerator
from fade.run.resolve_params import resolve
from tasks.release.evaluate_release import evaluate_release
from tasks.stages import evaluate


@pytest.mark.parametrize(
    ("method", "trained"),
    [
        ("method.name=fade method.variant=paper", True),
        ("method.name=nullspace method.variant=hinge", True),  # by their prompts
        ("method.name=esd method.variant=x", False),
        ("method.name=esd method.variant=x method.anchors=neighbourhood", True),
        ("method.name=uce method.variant=keys-values", False),
        ("method.name=uce method.variant=keys-values method.anchors=neighbourhood", True),
    ],
)
def test_neighbours_are_called_trained_on_where_the_method_saw_them(method, trained, tmp_path, monkeypatch):
    pictures = ({"panda": None}, 1.5, ["a disputed picture"], ["a substitute"])
    judged = evaluate.EvaluationResult({"metrics": {}}, *pictures)
    monkeypatch.setattr(evaluate, "evaluate_adapter", lambda *_: judged)
    run = SimpleNamespace(params=resolve(overrides=method.split()), folder=tmp_path)
    result = evaluate.evaluate(run, None, tmp_path / "adapter.safetensors")
    numbers = result.numbers
    rest = (result.pictures, result.seconds, result.disputed, result.substitutes)
    shown = (judged.disputed, judged.substitutes)
    assert rest == (judged.pictures, judged.seconds, *shown)  # the report shows them
    assert numbers["neighbours_trained"] is trained
    assert json.loads((tmp_path / "evaluation.json").read_text()) == numbers


def gated_run(tmp_path):
    """A run whose section `method` has a gate."""
    plain = SimpleNamespace(base=None, sampler=SimpleNamespace(prompt="a {concept}"), cache=None, seconds=0.0)
    params = resolve(overrides=["method.name=spm", "method.variant=gated"])
    return SimpleNamespace(params=params, generator=plain, folder=tmp_path)


def test_a_release_is_judged_without_the_gate_of_the_section_method(tmp_path, monkeypatch):
    """Where it is served nothing gates it; a run of the method itself has its gate."""
    made_by = []

    def judged(run, neighborhood, change, sha256, generator):
        made_by.append(generator)
        return evaluate.EvaluationResult({"per_concept": [], "rest": [], "realism": {}}, {}, 0.0, [], [])

    monkeypatch.setattr(evaluate, "evaluate_change", judged)
    lora = SimpleNamespace(merge=lambda: None, remove=lambda: None)
    monkeypatch.setattr(evaluate, "load_adapter", lambda run, adapter: lora)
    (tmp_path / "adapter.safetensors").write_bytes(b"x")
    run, neighborhood = gated_run(tmp_path), SimpleNamespace(targets=["panda"], parts=[])
    config = SimpleNamespace(config=SimpleNamespace(mode="sum"), kept=SimpleNamespace(used=(), measured=()))
    evaluate_release(run, neighborhood, SimpleNamespace(parts=[]), config, {}, tmp_path)
    evaluate.evaluate_adapter(run, neighborhood, tmp_path / "adapter.safetensors")
    assert made_by[0] is run.generator and isinstance(made_by[1], GatedGenerator)


def test_the_seconds_of_judging_leave_out_the_pictures_that_a_gate_makes(tmp_path, monkeypatch):
    run = gated_run(tmp_path)
    run.params = run.params.model_copy(
        update={"evaluate": run.params.evaluate.model_copy(update={"real_pictures": 0})}
    )
    run.models = SimpleNamespace(base=None, judge=None, encoder=None, second_judge=None)
    run.vocabulary, run.root = None, tmp_path

    def judge(*_, **__):
        run.generator.seconds += 1000.0  # of the pictures, by the generator that the gate stands before
        return SimpleNamespace(numbers={}, pictures={}, disputed=[], substitutes=[])

    monkeypatch.setattr(sys.modules["fade.evaluation.evaluate"], "evaluate", judge)
    monkeypatch.setattr("fade.evaluation.picture_count.pictures_to_make", lambda *_: 0)
    monkeypatch.setattr("fade.models.prompts.require_distinct", lambda *_: None)
    monkeypatch.setattr(evaluate, "announced", lambda *_: contextlib.nullcontext())
    hood = SimpleNamespace(neighbours=[], heldout=[], targets=["panda"])
    gate = GatedGenerator(run.generator, None, ["panda"])
    assert evaluate.evaluate_change(run, hood, None, "a" * 64, gate).seconds < -900
