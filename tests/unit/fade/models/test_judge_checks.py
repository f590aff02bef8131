"""A judge's directory: labels that differ, transformers' layout, and pickles that are never opened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fade.errors import BaseModelError
from fade.judges.classifier import Classifier
from fade.models.judge_checks import equal_labels, label_names
from fade.models.layout import check_model, resolve
from tests.support import make_bare_model, make_tiny_judge


def bare(folder: Path, **config: Any) -> Path:
    """A judge's directory without tensors."""
    make_bare_model(folder)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def refusal(home: Path) -> BaseModelError:
    with pytest.raises(BaseModelError) as caught:
        check_model(home, "judge")
    assert caught.value.stage == "judge" and caught.value.action
    return caught.value


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (["crane", "tench", "crane"], "the labels 'crane' at 0 and 'crane' at 2 are equal"),
        (["Cardigan", "tench", "cardigan"], "'Cardigan' at 0 and 'cardigan' at 2 cannot be told apart"),
        (["tench", "french horn", "French-horn"], "'french horn' at 1 and 'French-horn' at 2 cannot be told"),
    ],
)
def test_labels_that_cannot_be_told_apart_are_refused_with_their_positions(
    tmp_path: Path, labels: list[str], says: str
) -> None:
    error = refusal(bare(tmp_path / "judge", id2label=dict(enumerate(labels))))
    assert says in str(error) and "config.json" in error.what
    assert "fade judge import" in error.action and "--names" in error.action


def test_wherever_a_judge_is_loaded_its_labels_are_looked_at(tmp_path: Path) -> None:
    judge = make_tiny_judge(tmp_path / "judge", ["crane", "tench", "crane"])
    with pytest.raises(BaseModelError, match="'crane' at 0 and 'crane' at 2 are equal"):
        Classifier(str(judge))


def test_labels_that_differ_load(tmp_path: Path) -> None:
    labels = ["noto", "noto-v1", "tench, Tinca tinca"]
    check_model(bare(tmp_path / "judge", id2label=dict(enumerate(labels))), "judge")
    assert equal_labels(labels) is None and label_names({"id2label": {"1": "b", "0": "a"}}) == ["a", "b"]
    assert label_names({}) == label_names({"id2label": {"0": "a", "2": "b"}}) == []


@pytest.mark.parametrize(
    "config",
    [
        {"architecture": "resnet50", "num_classes": 1000, "pretrained_cfg": {}},
        {"model_type": "timm_wrapper", "architectures": ["TimmWrapperForImageClassification"]},
    ],
)
def test_timms_folder_is_to_be_imported_and_timm_not_installed(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    error = refusal(bare(tmp_path / "judge", **config))
    assert f"fade judge import {tmp_path / 'judge'}" in error.action
    assert "timm's" in error.what and "install" not in str(error)


def test_a_folder_with_safetensors_beside_pickles_loads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As every clone of a hub's model is: the same weights three times."""
    import torch

    def forbidden(*_: Any, **__: Any) -> None:
        raise AssertionError("a pickle was opened")

    judge = make_tiny_judge(tmp_path / "judge")
    plain = Classifier(str(judge)).sha256
    others = ("pytorch_model.bin", "flax_model.msgpack", "tf_model.h5")
    for name in others:
        (judge / name).write_bytes(b"no weights at all")
    monkeypatch.setattr(torch, "load", forbidden)
    assert Classifier(str(judge)).sha256 == plain
    assert all(name in capsys.readouterr().err for name in ["ignored, as only safetensors are read"])


def test_pickles_alone_are_to_be_imported(tmp_path: Path) -> None:
    judge = make_bare_model(tmp_path / "judge")
    (judge / "model.safetensors").rename(judge / "pytorch_model.bin")
    error = refusal(judge)
    assert "only pytorch_model.bin" in error.what and f"fade judge import {judge}" in error.action


@pytest.mark.parametrize("name", ["resnet50-11ad3fa6.pth", "model.safetensors", "judge.PT"])
def test_one_file_is_to_be_imported(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"weights")
    with pytest.raises(BaseModelError, match="holds a network's weights alone") as caught:
        resolve(str(tmp_path / name), "judge")
    assert f"fade judge import {tmp_path / name}" in caught.value.action
