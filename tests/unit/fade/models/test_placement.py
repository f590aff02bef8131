"""Loaded tensors lie in aligned memory of their own, whatever they were read from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from fade.judges.classifier import Classifier
from fade.mining.image_encoder import ImageEncoder
from fade.models.loading import load_model
from fade.models.placement import ALIGNMENT, place
from tests.support import make_tiny_clip, make_tiny_judge


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight  # tied
        self.register_buffer("positions", torch.arange(3))


def tensors(network: nn.Module) -> list[torch.Tensor]:
    return [*network.parameters(), *network.buffers()]


def foreign(network: nn.Module) -> list[str]:
    """Names of the tensors that are not aligned, or not in memory that torch has allocated."""
    named = [*network.named_parameters(), *network.named_buffers()]
    return [
        name
        for name, one in named
        if one.data_ptr() % ALIGNMENT or not one.untyped_storage().resizable() or not one.is_contiguous()
    ]


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def mapped(request: pytest.FixtureRequest, tmp_path: Path) -> Network:
    """A network whose tensors are mapped from a file, none at an aligned address."""
    network = Network().to(request.param)
    state = dict(network.named_parameters()) | dict(network.named_buffers())
    for note in ("", 8 * "x"):  # one of two heads that differ by 8 bytes ends at no multiple of 16
        save_file({name: one.detach().clone() for name, one in state.items()}, tmp_path / "a", {"n": note})
        read = load_file(tmp_path / "a")
        for name, one in state.items():
            one.data = read[name]
        if all(one.data_ptr() % 16 for one in state.values()):
            break
    assert len(foreign(network)) == 4
    return network


def test_every_tensor_gets_aligned_memory_and_keeps_its_values(mapped: Network) -> None:
    before = [(id(one), one.dtype, one.clone()) for one in tensors(mapped)]
    place(mapped, "cpu")
    assert foreign(mapped) == []
    for one, (identity, dtype, values) in zip(tensors(mapped), before, strict=True):
        assert (id(one), one.dtype) == (identity, dtype) and torch.equal(one, values)
    assert mapped.first.weight is mapped.second.weight


def test_views_of_memory_that_others_hold_become_plain_tensors() -> None:
    network, values = Network(), torch.arange(48.0)
    views = {"turned": values[:16].view(4, 4).T, "shifted": values[17:33].view(4, 4)}
    for view in views.values():
        network.first.weight.data = view
        place(network, "cpu")
        assert foreign(network) == [] and torch.equal(network.first.weight, view)


def test_what_lies_well_is_not_copied() -> None:
    network = Network()
    before = [one.data_ptr() for one in tensors(network)]
    place(network, "cpu")
    assert [one.data_ptr() for one in tensors(network)] == before


def test_another_device_gets_the_network_as_it_is(mapped: Network) -> None:
    place(mapped, "meta")
    assert {one.device.type for one in tensors(mapped)} == {"meta"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_base_is_loaded_into_aligned_memory(tiny_base_dir: Path, dtype: torch.dtype) -> None:
    model = load_model(str(tiny_base_dir), device="cpu", dtype=dtype)
    networks = [part for part in model.parts.values() if isinstance(part, nn.Module)]
    assert len(networks) == 3 and not any(map(foreign, networks)) and model.denoiser.dtype == dtype


def test_a_judge_and_a_clip_are_loaded_into_aligned_memory(tmp_path: Path) -> None:
    judge = Classifier(str(make_tiny_judge(tmp_path / "judge")))
    clip = ImageEncoder(str(make_tiny_clip(tmp_path / "clip")))
    assert foreign(judge.model) == foreign(clip.model) == []
