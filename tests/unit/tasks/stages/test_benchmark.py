"""What a cell's key is made of is what the models say themselves, and the probe's code is in it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from fade.benchmark.plan import Cell, Condition
from fade.benchmark.record import SOURCES
from fade.errors import ConfigError
from fade.models import memory
from fade.provenance.fingerprints import files_sha256
from fade.run.context import RunContext
from fade.run.resolve_params import load_params
from fade.utils.hashing import fingerprint
from tasks.stages import robustness as probe
from tasks.stages.benchmark import Bench, note_memory, sources_of
from tests.datasets import make_dataset
from tests.support import make_bare_model, make_tiny_base

CELL = Cell(Condition("esd", "x"), "panda", 0)


def bench(tmp_path: Path, repo: Path, base: Path, *, probing: bool) -> Bench:
    names = {
        "data.base": base,
        "data.judge": tmp_path / "judge",
        "data.clip": tmp_path / "judge",
        "data.images": tmp_path / "images",
        "data.second_judge": '""',
    }
    params = load_params(repo / "params.yaml", [f"{key}={path}" for key, path in names.items()])
    first = RunContext(params, "panda", tmp_path / "runs", repo)
    return Bench(first, tmp_path / "cells", "d", "abc", repo / "params.yaml", (), probing)


def test_the_sources_are_the_hashes_that_the_loaded_models_have(
    tmp_path: Path, repo: Path, tiny_base_dir: Path
) -> None:
    from fade.models.loading import load_model

    make_dataset(tmp_path / "images")
    make_bare_model(tmp_path / "judge")
    opened = bench(tmp_path, repo, tiny_base_dir, probing=True)
    found = sources_of(opened.first)
    assert found["base"] == load_model(str(tiny_base_dir)).sha256
    assert len({found["base"], found["judge"], found["clip"]}) == 3
    assert found["vocabulary"] == fingerprint(("panda", "koala", "tulip", "rose"))
    other = shutil.copytree(tiny_base_dir, tmp_path / "other")
    config = json.loads((other / "unet" / "config.json").read_text(encoding="utf-8"))
    (other / "unet" / "config.json").write_text(json.dumps({**config, "another": 1}), encoding="utf-8")
    assert sources_of(bench(tmp_path, repo, other, probing=True).first)["base"] != found["base"]


def test_the_probes_code_is_in_the_key_and_tuning_needs_none(tmp_path: Path, repo: Path) -> None:
    sources = dict.fromkeys(("base", "judge", "clip", "vocabulary"), "x")
    for probing, wanted in ((True, files_sha256([Path(probe.__file__)])), (False, None)):
        opened = bench(tmp_path, repo, tmp_path, probing=probing)
        inputs = opened.inputs(CELL, opened.settings(CELL, ["train.lr=1e-4"]), sources)
        assert inputs["probe"] == wanted and inputs["settings"]["train"]["lr"] == 1e-4


@pytest.mark.parametrize("probing", [True, False])
def test_the_memory_is_noted_before_a_cell_and_the_attacks_only_where_they_are_run(
    tmp_path: Path, repo: Path, probing: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    make_dataset(tmp_path / "images")
    base = make_tiny_base(tmp_path / f"base-{probing}")
    with (base / "unet" / "twin.safetensors").open("wb") as stream:
        stream.truncate(memory.SMALL)  # as many bytes as a large base has
    opened, sources = bench(tmp_path, repo, base, probing=probing), dict.fromkeys(SOURCES, "x")
    opened = replace(opened, overrides=(f"data.base={base}",))
    tight, always = ["model.memory_gb=0.1"], ["model.memory_gb=10", "model.gradient_checkpointing=always"]
    with pytest.raises(ConfigError, match=r"0\.1 GB of the device may be used"):
        note_memory(opened, [(CELL, opened.settings(CELL, tight))], sources)
    note_memory(opened, [(CELL, opened.settings(CELL, always))] * 2, sources)
    (line,) = [text for text in capsys.readouterr().err.splitlines() if "memory: " in text]
    assert line.startswith("esd/x: memory: about 0.8 of 9.0 GB")
    assert ("attack revival with gradient checkpointing" in line) == probing
