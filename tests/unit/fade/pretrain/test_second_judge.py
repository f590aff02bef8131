"""The second judge starts from a network of photographs and knows the vocabulary's labels alone."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from fade.config import SecondJudgeConfig
from fade.data.images import Preprocessor
from fade.errors import DataError
from fade.judges.supervised_loop import Training
from fade.pretrain import second_judge
from fade.utils.files import write_json

SIDE = 32


def package_weights() -> dict[str, Tensor]:
    """Random tensors by the package's names, of Lite0's shapes."""
    ours = second_judge.build(["photograph"], SIDE).state_dict()
    generator = torch.Generator().manual_seed(0)
    out = {}
    for name, tensor in ours.items():
        if ".squeeze_excite." not in name and not name.startswith("classifier."):
            value = torch.rand(tensor.shape, generator=generator) + 0.5 if tensor.ndim else torch.tensor(3)
            out[_packaged(name)] = value if tensor.ndim < 2 else 0.1 * (value - 1)
    return out | {"_fc.weight": torch.zeros(1000, 1280), "_fc.bias": torch.zeros(1000)}


def _packaged(name: str) -> str:
    parts = {
        "embeddings.convolution": "_conv_stem",
        "embeddings.batchnorm": "_bn0",
        "encoder.top_conv": "_conv_head",
        "encoder.top_bn": "_bn1",
        "expansion.expand_conv": "_expand_conv",
        "expansion.expand_bn": "_bn0",
        "depthwise_conv.depthwise_conv": "_depthwise_conv",
        "depthwise_conv.depthwise_norm": "_bn1",
        "projection.project_conv": "_project_conv",
        "projection.project_bn": "_bn2",
    }
    short = name.removeprefix("efficientnet.").replace("encoder.blocks", "_blocks")
    for long, packaged in parts.items():
        short = short.replace(long, packaged)
    return short


def test_every_tensor_of_the_package_is_loaded_but_the_photographs_classifier() -> None:
    model, weights = second_judge.build(["panda", "koala"], SIDE), package_weights()
    second_judge.load_backbone(model, weights)
    loaded = {_packaged(name): tensor for name, tensor in model.state_dict().items()}
    backbone = [name for name in weights if not name.startswith("_fc")]
    assert len(backbone) > 200 and all(torch.equal(loaded[name], weights[name]) for name in backbone)


def test_its_gates_are_open_and_stay_so() -> None:
    """Lite0 has no squeeze-and-excitation: each must be the identity, bit for bit."""
    model = second_judge.build(["panda"], SIDE).eval()
    gates = [m for name, m in model.named_modules() if name.endswith(".squeeze_excite")]
    assert len(gates) == 16
    for gate in gates:
        x = 6 * torch.rand(2, gate.dim, 4, 4)
        assert torch.equal(gate(x), x)
        assert not any(parameter.requires_grad for parameter in gate.parameters())


def test_other_weights_are_refused() -> None:
    weights = package_weights()
    with pytest.raises(DataError, match="not those of EfficientNet-Lite0"):
        second_judge.load_backbone(
            second_judge.build(["panda"], SIDE), {**weights, "_conv_stem.weight": torch.zeros(8, 3, 3, 3)}
        )
    del weights["_conv_head.weight"]
    with pytest.raises(DataError, match="not those of EfficientNet-Lite0"):
        second_judge.load_backbone(second_judge.build(["panda"], SIDE), weights)


def test_the_packages_file_is_read_without_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch.save(package_weights(), tmp_path / "some.pth")
    monkeypatch.setitem(sys.modules, "weights_of", SimpleNamespace(__file__=str(tmp_path / "__init__.py")))
    assert "_conv_stem.weight" in second_judge.load_weights("weights_of")
    with pytest.raises(DataError, match="not_there are not installed"):
        second_judge.load_weights("not_there")


def test_it_learns_and_keeps_the_vocabularys_labels_in_their_order(tmp_path: Path) -> None:
    torch.manual_seed(0)
    names = ["red", "green", "blue"]
    pixels = torch.full((3, 64, 64, 3), 255, dtype=torch.uint8)
    for i in range(3):
        pixels[i, 16:48, 16:48] = 0
        pixels[i, 16:48, 16:48, i] = 220
    model = second_judge.build(sorted(names), SIDE)
    second_judge.load_backbone(model, package_weights())
    config = SecondJudgeConfig(steps=40, batch_size=6, lr=1e-2, ema=0.5, side=SIDE)
    logs: list[dict[str, float]] = []
    training = Training(tmp_path / "run", 0, lambda step, steps, found: logs.append(found))
    second_judge.train(model, pixels, names, torch.ones(3), config, training)
    losses = [found["loss"] for found in logs]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    x = second_judge.as_read(torch.rand(2, 3, 64, 64) * 2 - 1, SIDE)
    with torch.no_grad():
        before = model(pixel_values=x).logits
        second_judge.keep_labels(model, ["red", "blue"])
        after = model(pixel_values=x).logits
    order = [sorted(names).index(name) for name in ("red", "blue")]
    assert torch.allclose(after, before[:, order]) and model.config.id2label == {0: "red", 1: "blue"}


def test_its_preprocessor_makes_what_it_was_trained_on(tmp_path: Path) -> None:
    write_json(tmp_path / "preprocessor_config.json", second_judge.preprocessor(SIDE))
    pixels = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    flat = pixels // 32 * 32  # not the resampling is compared, but the levels
    flat[:] = flat[:, :1, :1]
    found = Preprocessor(tmp_path, SIDE)(flat.numpy())
    expected = second_judge.as_read(flat.permute(0, 3, 1, 2).float() / 127.5 - 1, SIDE)
    assert torch.allclose(found, expected, atol=1e-5)


def test_the_weights_are_the_mean_of_every_cycle_s_end(tmp_path: Path) -> None:
    model = second_judge.build(["red"], SIDE)
    config = SecondJudgeConfig(steps=2, batch_size=2, lr=1e-2, ema=0.0, side=SIDE, restarts=1)
    seen: list[tuple[int, int]] = []
    training = Training(tmp_path, 0, lambda step, steps, _: seen.append((step, steps)))
    pixels = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    second_judge.train(model, pixels, ["red", "red"], torch.ones(2), config, training)
    first, second = (load_file(tmp_path / f"cycle_{i}" / "checkpoint.safetensors") for i in (0, 1))
    moved = 0
    for name, weight in model.named_parameters():
        if ".squeeze_excite." not in name:
            ends = first[f"average/{name}"], second[f"average/{name}"]
            assert torch.allclose(weight, (ends[0] + ends[1]) / 2, atol=1e-7), name
            moved += not torch.equal(*ends)
        assert not weight.requires_grad
    assert moved and seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
