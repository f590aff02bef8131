"""Somebody else's classifier becomes a judge whole, by the same numbers, or is refused by a tensor's name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from fade.errors import BaseModelError, FadeError, StorageError, UsageError
from fade.judges.classifier import Classifier
from fade.judges.importing import TORCHVISION, import_judge, read_source
from fade.judges.preparation import Preparation, from_timm, from_transformers
from fade.judges.resnet_layout import ARCHITECTURES, name_table, recognise, to_transformers
from tests.support import make_tiny_judge
from tests.unit.fade.judges.published_resnet import State, forward, random_state

CLASSES = 3
NAMES = "tench\ncrane bird\ncrane machine\n"
TIMM = {
    "architecture": "resnet18",
    "num_classes": CLASSES,
    "pretrained_cfg": {
        "input_size": [3, 224, 224],
        "crop_pct": 0.95,
        "interpolation": "bicubic",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    },
}
SIDES = {"resize": 40, "crop": 32}


@pytest.fixture(scope="module")
def small() -> State:
    """A resnet18's tensors; not to be changed."""
    return random_state("resnet18", CLASSES)


@pytest.fixture
def names(tmp_path: Path) -> str:
    (tmp_path / "names.txt").write_text(NAMES)
    return str(tmp_path / "names.txt")


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_the_network_is_the_published_one(name: str) -> None:
    state = random_state(name, CLASSES, seed=1)
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    model, found = to_transformers(state, "file")
    assert found.name == name and len(state) == {"resnet18": 122, "resnet50": 320}[name]
    with torch.no_grad():
        logits = model(pixel_values=x).logits
    expected = forward(state, name, x)
    assert expected.std() > 0.01 and float((logits - expected).abs().max()) <= 1e-6 * float(
        1 + expected.abs().max()
    )


def test_the_names_are_one_to_one() -> None:
    for one in ARCHITECTURES.values():
        table = name_table(one)
        assert len(set(table.values())) == len(table) and recognise(table, "file") == one
    assert name_table(ARCHITECTURES["resnet50"])["layer3.5.bn2.bias"] == (
        "resnet.encoder.stages.2.layers.5.layer.1.normalization.bias"
    )


def test_a_pickle_of_tensors_becomes_a_judge_that_gives_the_same_probabilities(
    tmp_path: Path, small: State, names: str
) -> None:
    torch.save(small, tmp_path / "resnet18.pth")
    made = import_judge(tmp_path / "resnet18.pth", tmp_path / "judge", names, **SIDES)
    judge = Classifier(str(tmp_path / "judge"))
    assert judge.labels == NAMES.split("\n")[:CLASSES] == [row["concept"] for row in made["table"]]
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = ((torch.from_numpy(pixels) / 255 - mean) / std).permute(0, 3, 1, 2)
    assert torch.allclose(judge(pixels), forward(small, "resnet18", x).softmax(-1), atol=1e-5)
    record = json.loads((tmp_path / "judge/import.json").read_text())
    assert record["layout"] == "one file, by its tensors a resnet18" and record["crop"] == 32
    assert len(record["source"]["files"]["resnet18.pth"]) == 64
    assert sorted(path.name for path in tmp_path.iterdir()) == ["judge", "names.txt", "resnet18.pth"]


def without(name: str) -> Callable[[State], None]:
    return lambda state: state.__delitem__(name)


def put(name: str, *shape: int, dtype: torch.dtype = torch.float32) -> Callable[[State], None]:
    return lambda state: state.__setitem__(name, torch.zeros(shape, dtype=dtype))


def nan(state: State) -> None:
    state["layer1.0.bn1.bias"] = torch.full((64,), float("nan"))


FAULTS: dict[str, tuple[Callable[[State], None], str]] = {
    "missing": (without("layer2.0.downsample.0.weight"), "lacks layer2.0.downsample.0.weight of resnet18"),
    "no head": (without("fc.weight"), "lacks fc.weight of resnet18"),
    "extra": (put("layer1.0.se.fc1.weight", 4), "holds layer1.0.se.fc1.weight, unknown to a plain resnet18"),
    "deep stem": (put("conv1.0.weight", 32, 3, 3, 3), "holds conv1.0.weight, unknown"),
    "misshapen": (put("layer3.1.conv2.weight", 256, 8, 3, 3), "layer3.1.conv2.weight has the shape"),
    "quantised": (put("layer1.0.conv1.weight", 64, 64, 3, 3, dtype=torch.int8), "is in whole numbers"),
    "not finite": (nan, "layer1.0.bn1.bias is not finite"),
    "another depth": (put("layer4.2.conv1.weight", 512, 512, 3, 3), "a ResNet of 2, 2, 2, 3 basic blocks"),
}


@pytest.mark.parametrize("what", FAULTS)
def test_nothing_is_loaded_in_part(small: State, what: str) -> None:
    change, says = FAULTS[what]
    state = dict(small)
    change(state)
    with pytest.raises(BaseModelError) as caught:
        to_transformers(state, "file")
    assert says in str(caught.value) and caught.value.action


def test_counts_of_batches_may_be_missing(small: State) -> None:
    """Older files of torchvision have none."""
    state = {name: tensor for name, tensor in small.items() if not name.endswith("num_batches_tracked")}
    assert to_transformers(state, "file")[1].name == "resnet18"


def test_another_network_is_refused_by_its_tensors(tmp_path: Path) -> None:
    save_file({"blocks.0.attn.qkv.weight": torch.zeros(3)}, tmp_path / "vit.safetensors")
    with pytest.raises(BaseModelError, match=r"no tensor of a ResNet .*blocks\.0\.attn.*resnet152"):
        read_source(tmp_path / "vit.safetensors")


class Planted:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("ran",)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"conv1.weight": torch.zeros(1), "x": Planted()}, "cannot be read as tensors alone"),
        ({"state_dict": {"conv1.weight": torch.zeros(1)}, "epoch": 3}, r"\(state_dict, epoch\)"),
    ],
)
def test_a_pickle_of_more_than_tensors_is_refused_and_runs_nothing(
    tmp_path: Path, content: Any, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(content, tmp_path / "model.pth")
    capsys.readouterr()
    with pytest.raises(BaseModelError, match=says) as caught:
        read_source(tmp_path / "model.pth")
    assert caught.value.action and "ran" not in capsys.readouterr().out


def test_a_file_that_is_cut_off_or_none_is_refused(tmp_path: Path, small: State) -> None:
    save_file({"conv1.weight": torch.zeros(9)}, tmp_path / "a.safetensors")
    (tmp_path / "b.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes()[:-8])
    (tmp_path / "c.txt").write_text("x")
    for name, says in (("b.safetensors", "cut off"), ("c.txt", "no classifier's file"), ("d", "not there")):
        with pytest.raises(BaseModelError, match=says):
            read_source(tmp_path / name)


def timm_folder(folder: Path, state: State, **changes: Any) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**TIMM, **changes}))
    save_file(state, folder / "model.safetensors")
    return folder


def test_timms_folder_brings_its_preparation(tmp_path: Path, small: State, names: str) -> None:
    made = import_judge(timm_folder(tmp_path / "timm", small), tmp_path / "judge", names)
    assert (made["layout"], made["resize"], made["crop"]) == ("timm's resnet18", 235, 224)
    assert made["interpolation"] == "bicubic"
    written = json.loads((tmp_path / "judge/preprocessor_config.json").read_text())
    assert from_transformers(written) == from_timm(TIMM) == Preparation(235, 224, "bicubic")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"architecture": "resnet50d"}, "architecture 'resnet50d'; imported are resnet18"),
        ({"architecture": "resnet34"}, "names resnet34 with 3 classes, model.safetensors holds resnet18"),
        ({"num_classes": 1000}, "names resnet18 with 1000 classes"),
        ({"pretrained_cfg": {"input_size": [3, 224, 224]}}, "pretrained_cfg cannot be used"),
    ],
)
def test_another_folder_of_timms_is_refused_by_name(
    tmp_path: Path, small: State, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(BaseModelError, match=says):
        read_source(timm_folder(tmp_path / "timm", small, **changes))


def hub(folder: Path, labels: list[str]) -> Path:
    make_tiny_judge(folder, labels)
    taken = Preparation(20, 16).to_json()
    (folder / "preprocessor_config.json").write_text(json.dumps(taken))
    return folder


def test_a_hubs_folder_of_equal_labels_is_named_by_a_table(tmp_path: Path) -> None:
    """As the thousand labels of ImageNet are: two cranes."""
    home = hub(tmp_path / "hub", ["crane", "tench, Tinca tinca", "crane"])
    (home / "pytorch_model.bin").write_bytes(b"never opened")
    with pytest.raises(BaseModelError, match="'crane' at 0 and 'crane' at 2 are equal") as caught:
        import_judge(home, tmp_path / "judge")
    assert "--names" in caught.value.action and not (tmp_path / "judge").exists()
    table = tmp_path / "names.csv"
    table.write_text("wnid,label,concept\nn1,2,crane machine\nn2,0,crane bird\nn3,1,tench\n")
    import_judge(home, tmp_path / "judge", str(table))
    named, plain = Classifier(str(tmp_path / "judge")), tmp_path / "plain"
    assert named.labels == ["crane bird", "tench", "crane machine"]
    pixels = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    assert torch.equal(named(pixels), Classifier(str(hub(plain, ["a", "b", "c"])))(pixels))


def test_a_hubs_pickle_alone_is_read_once(tmp_path: Path) -> None:
    home = hub(tmp_path / "hub", ["a", "b", "c"])
    torch.save(load_file(home / "model.safetensors"), home / "pytorch_model.bin")
    pixels = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    expected = Classifier(str(home))(pixels)
    (home / "model.safetensors").unlink()
    import_judge(home, tmp_path / "judge")
    judge = Classifier(str(tmp_path / "judge"))
    assert judge.labels == ["a", "b", "c"] and torch.equal(judge(pixels), expected)
    torch.save({"x": torch.zeros(1)}, home / "pytorch_model.bin")
    with pytest.raises(BaseModelError, match="holds x, unknown to ResNetForImageClassification"):
        import_judge(home, tmp_path / "other")


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({}, UsageError, "nothing in it names its 3 classes"),
        ({"names": "imagenet"}, FadeError, "ImageNet has 1000 classes, this judge 3"),
    ],
)
def test_classes_without_names_are_refused(
    tmp_path: Path, small: State, options: dict[str, Any], error: type[FadeError], says: str
) -> None:
    save_file(small, tmp_path / "a.safetensors")
    with pytest.raises(error, match=says) as caught:
        import_judge(tmp_path / "a.safetensors", tmp_path / "judge", **options, **SIDES)
    assert "--names" in caught.value.action and not (tmp_path / "judge").exists()


def test_a_preparation_that_nothing_states_is_asked_for(tmp_path: Path, small: State, names: str) -> None:
    save_file(small, tmp_path / "a.safetensors")
    with pytest.raises(BaseModelError, match="how it takes pictures is not in the file") as caught:
        import_judge(tmp_path / "a.safetensors", tmp_path / "judge", names)
    assert "--resize and --crop" in caught.value.action
    assert {side for _, side in TORCHVISION.values()} == {232, 256}


def test_what_is_there_is_never_replaced(tmp_path: Path, names: str) -> None:
    (tmp_path / "judge").mkdir()
    (tmp_path / "judge" / "mine.txt").write_text("x")
    with pytest.raises(StorageError, match="judge is there already"):
        import_judge(hub(tmp_path / "hub", ["a", "b", "c"]), tmp_path / "judge", names)
    assert [path.name for path in (tmp_path / "judge").iterdir()] == ["mine.txt"]


def test_the_middle_of_a_photograph_is_cut_out() -> None:
    """A red square in the middle of a wide picture, shrunk to a half."""
    wide = np.zeros((80, 200, 3), np.uint8)
    wide[:, 60:140, 0] = 255
    cut = Preparation(40, 40).cut(Image.fromarray(wide))
    assert cut.shape == (40, 40, 3) and cut[:, 2:-2, 0].min() > 250
    assert Preparation(40, 32).cut(Image.fromarray(wide)).shape == (32, 32, 3)
    assert Preparation(40, 32).cut(Image.fromarray(wide), wide=True).shape == (40, 40, 3)
    plain = np.arange(32 * 32 * 3, dtype=np.uint8).reshape(32, 32, 3)
    assert np.array_equal(Preparation(40, 32).cut(Image.fromarray(plain), whole=True), plain)
    with pytest.raises(BaseModelError, match="a square of 48 pixels is not cut"):
        Preparation(40, 48)


def test_a_folder_of_another_pickle_names_the_file(tmp_path: Path) -> None:
    home = hub(tmp_path / "hub", ["a", "b", "c"])
    (home / "model.safetensors").rename(home / "resnet.pth")
    with pytest.raises(BaseModelError, match=r"only resnet\.pth") as caught:
        read_source(home)
    assert f"fade judge import {home / 'resnet.pth'}" in caught.value.action
