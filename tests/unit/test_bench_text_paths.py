"""What each text path carries: the views, what a training reads with a path left alone, the cells, the
table."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fade.adapters.adapter_file import read_provenance
from fade.data.vocabulary import Concept, Vocabulary
from fade.errors import UsageError
from fade.judges.classifier import Classifier
from fade.mining.image_encoder import TimedEncoder
from fade.mining.neighborhood import training_latents
from fade.models.base import DiffusionModel
from fade.models.loading import load_model
from fade.run.context import RunContext
from fade.run.resolve_params import resolve
from tests.support import bench_module, make_tiny_clip, make_tiny_judge

NAMES = ("panda", "koala", "bear", "tiger", "lion", "cat")
SMALL = (
    "sampler.steps=2", "neighborhood.k=2", "neighborhood.k_heldout=1", "neighborhood.images_per_concept=2",
    "evaluate.images_per_concept=2", "evaluate.rest_concepts=1", "evaluate.base_known=0",
    "evaluate.bootstrap=10", "evaluate.drift_bins=2", "method.words=2",
    "train.steps=2", "train.warmup=1", "train.batch_target=1", "train.batch_neighbours=2",
    'data.second_judge=""',
)  # fmt: skip


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    text_paths = bench_module("text_paths")
    text_paths.tables = bench_module("tables")
    return text_paths


@pytest.fixture(scope="module")
def sdxl(family_dir: Callable[[str], Path]) -> DiffusionModel:
    return load_model(str(family_dir("sdxl")), device="cpu")


def run_of(repo: Path, base: DiffusionModel, folder: Path, method: str) -> RunContext:
    name, variant = method.split("/")
    overrides = [f"method.name={name}", f"method.variant={variant}", *SMALL]
    judge = Classifier(str(make_tiny_judge(folder / "judge", NAMES)), base.device)
    encoder = TimedEncoder(str(make_tiny_clip(folder / "clip")), base.device)
    models: Any = SimpleNamespace(base=base, judge=judge, encoder=encoder, second_judge=None)
    run = RunContext(resolve(repo / "params.yaml", overrides), "panda", folder / "runs", models=models)
    run.__dict__["vocabulary"] = Vocabulary(tuple(Concept(name, "") for name in NAMES))
    return run


def test_the_views_open_one_path_or_all_but_one_and_none_is_there_twice(bench: ModuleType) -> None:
    three = bench.views_of(["clip_1", "clip_2", "pooled"])
    assert {name: sorted(view) for name, view in three.items()} == {
        "whole": ["clip_1", "clip_2", "pooled"],
        "none": [],
        "only clip_1": ["clip_1"],
        "only clip_2": ["clip_2"],
        "only pooled": ["pooled"],
        "all but clip_1": ["clip_2", "pooled"],
        "all but clip_2": ["clip_1", "pooled"],
        "all but pooled": ["clip_1", "clip_2"],
    }
    assert list(bench.views_of(["t5", "pooled"])) == ["whole", "none", "only t5", "only pooled"]


@pytest.mark.parametrize("name", ["sdxl", "sd3"])
def test_a_closed_path_has_the_null_prompts_values_and_the_model_is_left_as_it_was(
    bench: ModuleType, name: str, family_dir: Callable[[str], Path]
) -> None:
    base = load_model(str(family_dir(name)), device="cpu")
    panda, null = base.encode(["a panda"]), base.encode([""])
    for key, path in base.text_paths.items():
        with bench.null_paths(base, [key], ""):
            closed, still_null = base.encode(["a panda", ""]), base.encode([""])
        wanted = panda.with_path(path, null)
        for value, other in ((closed.tokens[:1], wanted.tokens), (closed.pooled[:1], wanted.pooled)):
            assert torch.allclose(value, other, atol=1e-5), key
        assert torch.allclose(still_null.tokens, null.tokens, atol=1e-5)
    with bench.null_paths(base, base.text_paths, ""):
        nothing = base.encode(["a panda"])
    assert torch.allclose(nothing.tokens, null.tokens, atol=1e-5)
    assert "encode_batch" not in vars(base) and torch.equal(base.encode(["a panda"]).tokens, panda.tokens)


def test_only_prompts_that_name_the_target_lose_the_path(bench: ModuleType, sdxl: DiffusionModel) -> None:
    which = bench.names_target("cat", ["cat", "grinning cat", "panda"])
    named = ["a cat", "a picture of a cat", "two cat"]
    assert [which(prompt) for prompt in named] == [True] * 3
    others = ["a grinning cat", "a panda", "a concatenation", ""]
    assert [which(prompt) for prompt in others] == [False] * 4
    before = sdxl.encode(["a cat", "a panda"])
    with bench.null_paths(sdxl, ["pooled"], "", which):
        inside = sdxl.encode(["a cat", "a panda"])
    assert inside.pooled is not None and before.pooled is not None
    assert not inside.pooled[0].any() and torch.allclose(inside.pooled[1], before.pooled[1], atol=1e-5)
    assert torch.allclose(inside.tokens, before.tokens, atol=1e-5)


def test_the_target_is_trained_without_the_path_that_is_left_alone(
    bench: ModuleType, sdxl: DiffusionModel, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen from the denoiser: in a training with `pooled` left alone the target's own pooled vector never
    reaches it, and with nothing left alone it does."""
    run = run_of(repo, sdxl, tmp_path, "esd/x")
    around: Any = SimpleNamespace(target="panda", neighbours=["koala", "bear"], heldout=["cat"], seed=1)
    around.targets, around.parts, around.images_per_concept = ["panda"], [around], 2
    training_latents(around, run.generator)  # made now, prompted whole
    panda = sdxl.encode(["a panda"]).pooled
    assert panda is not None
    read: list[torch.Tensor] = []
    call = sdxl.call

    def record(network: Any, x: Any, t: Any, cond: Any) -> Any:
        read.extend(cond.pooled)
        return call(network, x, t, cond)

    monkeypatch.setattr(sdxl, "call", record)
    adapters = {}
    for left_alone in ("", "pooled"):
        read.clear()
        adapters[left_alone] = bench.train_adapter(run, around, left_alone)
        found = any(torch.allclose(one, panda[0], atol=1e-4) for one in read)
        assert read and found == (left_alone == ""), left_alone
    weights = [load_file(path) for path in adapters.values()]
    assert any(not torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert "untrained_text_path" not in read_provenance(adapters[""])
    assert read_provenance(adapters["pooled"])["untrained_text_path"] == "pooled"


def test_an_erased_model_is_judged_whole_and_by_every_view(
    bench: ModuleType, sdxl: DiffusionModel, repo: Path, tmp_path: Path
) -> None:
    run = run_of(repo, sdxl, tmp_path, "nullspace/hinge")
    before = {name: value.clone() for name, value in sdxl.denoiser.state_dict().items()}
    cells = bench.cells_of(run, NAMES[1:3], {("nullspace/hinge", "panda"): run})
    paths = list(sdxl.text_paths)
    assert list(cells)[8:] == [
        "original | panda",
        *(f"nullspace/hinge | panda | {left}" for left in ("nothing", *paths)),
    ]
    assert set(cells["base | whole"]()) == {"koala", "bear"}
    original = cells["original | panda"]()
    assert list(original["views"]) == list(bench.views_of(paths))
    erased = cells["nullspace/hinge | panda | pooled"]()
    assert {"A_er", "A_adj", "ERB"} <= set(erased["metrics"]) and set(erased["views"]) == set(
        original["views"]
    )
    after = sdxl.denoiser.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_a_second_call_measures_what_is_missing_and_no_cell_of_other_settings_is_taken(
    bench: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, measured = tmp_path / "new" / "out.json", []

    def cell(key: str) -> dict[str, float]:
        measured.append(key)
        if key == "c" and len(measured) < 4:
            raise KeyboardInterrupt
        return {"panda": 50.0, "cat": 100.0}

    cells = {key: (lambda key=key: cell(key)) for key in ("a", "b", "c")}
    with pytest.raises(KeyboardInterrupt):
        bench.measure(cells, {"world": "x", "concepts": ["panda"]}, out)
    assert list(json.loads(out.read_text())["cells"]) == ["a", "b"]
    result = bench.measure(cells, {"world": "x", "concepts": ["panda"]}, out)
    assert measured == ["a", "b", "c", "c"] and result == json.loads(out.read_text())
    assert "[3/3] c: top-1 75.0 % of 2 concepts (measured)" in capsys.readouterr().out
    with pytest.raises(UsageError, match="other settings \\(world\\)"):
        bench.measure(cells, {"world": "y", "concepts": ["panda"]}, out)


def test_the_table_has_a_row_a_view_and_a_row_an_erased_model(bench: ModuleType) -> None:
    views = {"whole": 90.0, "none": 0.0, "only t5": 80.0, "only pooled": 10.0}
    metrics = {"metrics": {"A_er": 70.0, "A_adj": 45.0}, "base_metrics": {"A_adj": 90.0}}
    result: dict[str, Any] = {
        "world": "sd3",
        "family": "Stable Diffusion 3",
        "concepts": ["panda", "cat"],
        "images_per_concept": 24,
        "cells": {
            **{f"base | {view}": {"panda": value, "cat": value / 2} for view, value in views.items()},
            "original | panda": {"views": views},
            "esd/x | panda | nothing": {**metrics, "views": {**views, "whole": 5.0}},
            "esd/x | panda | t5": {**metrics, "views": {**views, "whole": 30.0}},
        },
    }
    lines = bench.tables.text_paths(result)
    assert "| only t5 | 60.0 | 40 |" in lines
    assert "| original |  |  |  | 90.0 | 80.0 | 10.0 |" in lines
    assert "| `esd/x` | nothing | 70.0 | 50.0 | 5.0 | 80.0 | 10.0 |" in lines
    assert "| `esd/x` | t5 | 70.0 | 50.0 | 30.0 | 80.0 | 10.0 |" in lines
    assert lines[-2] == "`python bench/text_paths.py --world sd3 --out bench/results/text-paths-sd3.json`"
    result["cells"] = {key: value for key, value in result["cells"].items() if key.startswith("base")}
    assert not any("esd" in line for line in bench.tables.text_paths(result))


@pytest.mark.parametrize("script", ["esd.py", "text_paths.py"])
def test_help_has_an_example_with_a_world(script: str, repo: Path) -> None:
    command = [sys.executable, f"bench/{script}", "--help"]
    env = {"PYTHONPATH": str(repo), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=repo, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and f"python bench/{script} --world" in done.stdout
