"""A judge is trained on the training pictures alone, from a checkpoint as from the start, and measured on
those that are held out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from fade.config import FitConfig, JudgeTrainingConfig
from fade.data.manifest import MANIFEST, read_manifest
from fade.errors import BaseModelError, DataError, FadeError, UsageError
from fade.judges.classifier import Classifier
from fade.judges.importing import read_source
from fade.judges.judge_folder import write_judge
from fade.judges.labelled_pictures import LabelledPictures
from fade.judges.supervised_loop import Training
from fade.judges.train_on_set import train_on_set
from fade.judges.transfer import CHUNK, cached_features, head_of, train_head
from tests.datasets import make_dataset, rehash, save, write_manifest
from tests.support import make_tiny_judge

FEW: dict[str, Any] = {"steps": 3, "batch_size": 4, "lr": 0.01, "checkpoint_every": 2}
CONFIG = JudgeTrainingConfig.model_validate(
    {"batch_size": 4, "probe": FEW, "whole": FEW, "scratch": {**FEW, "channels": [4, 6]}}
)
PREPARED = '{"size": 16, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}'


@pytest.fixture
def drawings(tmp_path: Path) -> Path:
    """Four concepts, two training pictures and one that is held out of each, 16 x 16."""
    make_dataset(tmp_path / "set", size=16)
    return tmp_path / "set"


@pytest.fixture
def photographs(drawings: Path) -> Path:
    """The same in three sizes, none of them square."""
    frame, rng = read_manifest(drawings / MANIFEST), np.random.default_rng(1)
    for i, name in enumerate(frame["path"]):
        frame.loc[i, ["width", "height"]] = 30 + i % 3, 24
        save(drawings / name, rng.integers(0, 256, (24, 30 + i % 3, 3), dtype=np.uint8))
    rehash(drawings, frame)
    return drawings


@pytest.fixture
def pretrained(tmp_path: Path) -> Path:
    home = make_tiny_judge(tmp_path / "pretrained", ["x", "y", "z"])
    (home / "preprocessor_config.json").write_text(
        '{"size": {"shortest_edge": 20}, "crop_size": 16, "image_mean": [0.5, 0.5, 0.5], '
        '"image_std": [0.5, 0.5, 0.5]}'
    )
    return home


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def trained(folder: Path, work: Path, start: Path | None = None, **options: Any) -> Any:
    config = options.pop("config", CONFIG)
    return train_on_set(LabelledPictures.read(folder), start, config, work, **options)


def test_a_small_network_from_nothing_becomes_a_judge_of_the_sets_concepts(
    drawings: Path, tmp_path: Path
) -> None:
    judge = trained(drawings, tmp_path / "work")
    assert judge.mode == "scratch" and judge.probabilities.shape == (4, 4)
    pictures = LabelledPictures.read(drawings)
    write_judge(tmp_path / "judge", judge.model, pictures.labels, judge.preparation, {})
    loaded = Classifier(str(tmp_path / "judge"))
    assert loaded.labels == ["panda", "koala", "tulip", "rose"] and loaded.prepare.size == 16
    rows = np.flatnonzero(pictures.heldout)
    assert [pictures.paths[i].split("/")[0] for i in rows] == ["twemoji"] * 4
    pixels = pictures.load(rows, np.asarray)
    assert np.allclose(loaded(pixels).numpy(), judge.probabilities, atol=1e-5)


@pytest.mark.parametrize("probe", [True, False])
@pytest.mark.parametrize("kind", ["drawings", "photographs"])
def test_a_pretrained_judge_learns_the_sets_concepts(
    kind: str, probe: bool, pretrained: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(kind)
    before = weights(Classifier(str(pretrained)).model)
    judge = trained(folder, tmp_path / "work", pretrained, probe=probe)
    assert judge.mode == ("probe" if probe else "whole") and judge.probabilities.shape == (4, 4)
    assert np.allclose(judge.probabilities.sum(1), 1, atol=1e-5)
    after = weights(judge.model)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    heads = {"classifier.1.weight", "classifier.1.bias"}
    assert changed == heads if probe else heads < changed
    assert not any("running" in name for name in changed)  # a small set has other statistics each time


@pytest.mark.parametrize("mode", ["probe", "whole", "scratch"])
def test_held_out_pictures_change_nothing_that_is_trained(
    mode: str, drawings: Path, pretrained: Path, tmp_path: Path
) -> None:
    start, options = None if mode == "scratch" else pretrained, {"probe": mode == "probe"}
    first = weights(trained(drawings, tmp_path / "a", start, **options).model)
    frame, rng = read_manifest(drawings / MANIFEST), np.random.default_rng(7)
    for name in frame.loc[frame["split"] == "heldout", "path"]:
        save(drawings / name, rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
    rehash(drawings, frame)
    other = trained(drawings, tmp_path / "b", start, **options)
    assert all(torch.equal(first[name], one) for name, one in weights(other.model).items())
    for name in frame.loc[frame["split"] == "train", "path"]:  # the control
        save(drawings / name, rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
    rehash(drawings, frame)
    control = weights(trained(drawings, tmp_path / "c", start, **options).model)
    assert not all(torch.equal(first[name], one) for name, one in control.items())


@pytest.mark.parametrize("mode", ["probe", "whole"])
def test_a_stopped_training_ends_with_the_weights_of_an_undisturbed_one(
    mode: str, drawings: Path, pretrained: Path, tmp_path: Path
) -> None:
    class Stopped(Exception):
        pass

    def stop(stage: str, done: int, total: int, logs: dict[str, float]) -> None:
        if stage == "train" and done == 3:
            raise Stopped

    options = {"probe": mode == "probe"}
    whole = weights(trained(drawings, tmp_path / "a", pretrained, **options).model)
    with pytest.raises(Stopped):
        trained(drawings, tmp_path / "b", pretrained, on_stage=stop, **options)
    steps: list[int] = []
    again = trained(
        drawings,
        tmp_path / "b",
        pretrained,
        on_stage=lambda stage, done, *_: steps.append(done) if stage == "train" else None,
        **options,
    )
    assert steps == [3]  # from the checkpoint of step 2
    assert all(torch.equal(whole[name], one) for name, one in weights(again.model).items())


def test_features_are_made_once(drawings: Path, pretrained: Path, tmp_path: Path) -> None:
    made: list[str] = []
    for _ in range(2):
        trained(
            drawings,
            tmp_path / "work",
            pretrained,
            probe=True,
            on_stage=lambda stage, done, total, logs: made.append(f"{stage} {done}/{total}"),
        )
    assert made.count("features 4/12") == 1 and made.count("features 12/12") == 3 and CHUNK > 12


def test_features_are_what_the_judge_reads_of_the_pictures(
    drawings: Path, pretrained: Path, tmp_path: Path
) -> None:
    (pretrained / "preprocessor_config.json").write_text(PREPARED)
    judge, pictures = Classifier(str(pretrained)), LabelledPictures.read(drawings)
    source = read_source(pretrained)
    found = cached_features(
        source.model, pictures, source.require_preparation(), tmp_path / "f", "key", 5, plain=True
    )
    pixels = pictures.load(range(12), np.asarray)
    assert torch.allclose(found, judge.features(pixels), atol=1e-5)


def test_a_head_separates_what_a_line_separates(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(60) % 3
    features = 100 + torch.randn(60, 5, generator=generator)
    features[torch.arange(60), targets] += 8
    config = FitConfig(steps=150, batch_size=32, lr=0.05, ema=0.9)
    weight, bias = train_head(features, targets, 3, config, Training(tmp_path, 0))
    assert float(((features @ weight.T + bias).argmax(1) == targets).float().mean()) == 1


@pytest.mark.parametrize(
    ("kind", "options", "says", "next_"),
    [
        ("drawings", {"probe": True}, "trains a head on a pretrained judge's features", "--from"),
        ("photographs", {}, "a network that starts from nothing does not learn them", "fade judge import"),
    ],
)
def test_what_needs_a_pretrained_judge_asks_for_it(
    kind: str, options: dict[str, Any], says: str, next_: str, tmp_path: Path, request: Any
) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        trained(request.getfixturevalue(kind), tmp_path / "work", **options)
    assert next_ in caught.value.action


def spoil(folder: Path, **columns: Any) -> None:
    frame = read_manifest(folder / MANIFEST)
    for name, value in columns.items():
        frame[name] = value
    write_manifest(folder, frame)


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"split": "train"}, "holds no picture out"),
        ({"split": "heldout"}, "has no picture to train on .* of panda, koala, tulip and 1 more"),
        ({"split": "val"}, "names the split 'val'"),
        ({"concept": "panda", "family": "bears"}, "has 1 concept"),
        ({"sha256": "0" * 64}, "not the one that the manifest names"),
    ],
)
def test_a_set_that_cannot_be_used_is_refused(
    drawings: Path, tmp_path: Path, columns: dict[str, Any], says: str
) -> None:
    spoil(drawings, **columns)
    with pytest.raises(DataError, match=says) as caught:
        trained(drawings, tmp_path / "work")
    assert isinstance(caught.value, FadeError) and caught.value.action


def test_a_pretrained_file_that_says_nothing_of_pictures_is_to_be_imported_first(
    drawings: Path, pretrained: Path, tmp_path: Path
) -> None:
    (pretrained / "preprocessor_config.json").unlink()
    with pytest.raises(BaseModelError, match="how it takes pictures is not in its files") as caught:
        trained(drawings, tmp_path / "work", pretrained, probe=True)
    assert f"fade judge import {pretrained} --resize" in caught.value.action


def test_a_set_of_imagenets_pictures_is_named(drawings: Path) -> None:
    assert LabelledPictures.read(drawings).warning() == ""
    spoil(drawings, licence="LicenseRef-ImageNet")
    assert "ImageNet's: a network" in LabelledPictures.read(drawings).warning()
    spoil(drawings, licence="LicenseRef-CUB", package="CUB-200-2011")
    assert LabelledPictures.read(drawings).warning().startswith("Some of these pictures")
    spoil(drawings, licence="MIT", package="cubes")
    assert LabelledPictures.read(drawings).warning() == ""
    spoil(drawings, package="Stanford Dogs")
    assert "ImageNet's: a network" in LabelledPictures.read(drawings).warning()


def test_a_network_without_a_linear_head_is_refused() -> None:
    model = nn.Sequential(nn.Conv2d(3, 7, 1))
    model.config = type("Config", (), {"num_labels": 7})()  # type: ignore[assignment]
    with pytest.raises(BaseModelError, match="does not end in a linear layer"):
        head_of(model)


def test_the_shipped_drawings_are_squares_that_are_read_whole(repo: Path, tmp_path: Path) -> None:
    """A few steps on the embedded world's own data."""
    if not (repo / "data" / "emoji" / MANIFEST).is_file():
        pytest.skip("the data are not pulled here")
    pictures = LabelledPictures.read(repo / "data" / "emoji")
    assert pictures.plain_side(128) == 64 and pictures.plain_side(32) == 0
    few = pictures.load(range(3), np.asarray)
    assert few.shape == (3, 64, 64, 3) and Image.fromarray(few[0]).size == (64, 64)
    judge = trained(repo / "data" / "emoji", tmp_path / "work")
    assert judge.probabilities.shape == (int(pictures.heldout.sum()), len(pictures.labels))
