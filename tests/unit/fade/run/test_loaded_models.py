"""What a record names of a run's models, without loading any."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from fade.config import DataConfig, SelfTestConfig
from fade.errors import BaseModelError, EvaluationError
from fade.run.loaded_models import LoadedModels
from fade.run.self_tests import SelfTests
from tests.support import make_tiny_clip, make_tiny_judge

ALONE = DataConfig(second_judge="")


@pytest.fixture
def root(tiny_base_dir: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_base_dir, tmp_path / "data/base")
    make_tiny_clip(tmp_path / "data/base/clip")
    make_tiny_judge(tmp_path / "data/judge")
    return tmp_path


def test_a_record_names_both_hashes_the_files_and_the_licence(root: Path) -> None:
    (root / "data/base/README.md").write_text("---\nlicense: openrail\n---\n")
    models = LoadedModels(ALONE, SelfTests(root / "self_tests", SelfTestConfig()), root)
    record = models.record()
    assert set(record) == {"base", "clip", "judge"} and record["base"]["licence"] == "openrail"
    assert {role: one["sha256"] for role, one in record.items()} == models.inputs()
    for role, one in record.items():
        assert one["legacy_sha256"] == models.legacy_sha256(role) != one["sha256"]
    assert {"model.safetensors", "config.json"} <= set(record["judge"]["files"])
    assert "unet/diffusion_pytorch_model.safetensors" in record["base"]["files"]
    assert models.base.sha256 == record["base"]["sha256"] and models.judge.sha256 == record["judge"]["sha256"]


def test_a_record_names_how_a_judge_was_made(root: Path) -> None:
    models = LoadedModels(ALONE, SelfTests(root / "self_tests", SelfTestConfig()), root)
    plain = models.record()["judge"]
    assert not {"imported", "trained"} & plain.keys()
    (root / "data/judge/import.json").write_text('{"layout": "timm\'s resnet50", "table": [1, 2]}')
    (root / "data/judge/evaluation.json").write_text(json.dumps({"top1": 91.5, "data": "x" * 9000}))
    made = models.record()["judge"]
    assert made["imported"] == {"layout": "timm's resnet50"} and made["trained"] == {"top1": 91.5}
    assert made["sha256"] == plain["sha256"]  # what is loaded is the same


def test_a_second_judge_is_an_input_of_its_own(root: Path) -> None:
    make_tiny_judge(root / "data/judge/second")
    tests = SelfTests(root / "self_tests", SelfTestConfig())
    models = LoadedModels(DataConfig(second_judge="data/judge/second"), tests, root)
    assert set(models.record()) == set(models.inputs()) == {"base", "clip", "judge", "second_judge"}
    assert models.second_judge is not None and models.second_judge.sha256 == models.sha256("second_judge")
    assert "second_judge" in tests.measured
    with pytest.raises(EvaluationError, match=r"the second judge has no label 'rose'.*data\.second_judge"):
        models.second_judge.index("rose")
    assert LoadedModels(ALONE, tests, root).second_judge is None


def test_inputs_are_of_what_is_loaded_as_it_is_now(root: Path) -> None:
    models = LoadedModels(ALONE, SelfTests(root / "self_tests", SelfTestConfig()), root)
    before = models.inputs()
    (root / "data/base/unet/.DS_Store").write_bytes(b"x")
    assert models.inputs() == before
    config = root / "data/judge/preprocessor_config.json"
    config.write_text('{"size": {"height": 16, "width": 16}, "image_mean": [0, 0, 0]}')
    after = models.inputs()
    assert {role for role in before if before[role] != after[role]} == {"judge"}


def test_a_base_of_one_file_is_named_with_its_configurations(root: Path) -> None:
    (root / "model.safetensors").write_bytes(b"")
    data = DataConfig(base="model.safetensors", base_config="data/base", second_judge="")
    models = LoadedModels(data, SelfTests(root / "self_tests", SelfTestConfig()), root)
    assert models.where("base") == f"{root}/model.safetensors@{root}/data/base"
    assert models.where("clip") == f"{root}/data/base/clip"
    with pytest.raises(BaseModelError, match=r"model\.safetensors is no whole safetensors file"):
        models.sha256("base")
