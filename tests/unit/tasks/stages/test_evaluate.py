"""What the evaluation says of its run: whether the neighbours that it judges were trained on."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from fade.run.resolve_params import resolve
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
