"""The bytes that a model needs, counted on shapes, are those that it takes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from fade.errors import BaseModelError
from fade.models.footprint import META, Footprint, LiveBytes, empty_model, weight_bytes, weightless
from fade.models.layout import check_model
from fade.models.loading import load_model
from tests.support import DEEP, make_tiny_base

FamilyDir = Callable[[str], Path]
MB = 1 << 20


def test_the_peak_is_that_of_what_lives_at_once() -> None:
    x = torch.empty(MB, device=META)  # 4 MB, of before
    with torch.no_grad(), LiveBytes() as counted:
        x.view(2, -1)  # a view is nothing new
        y = x * 2
        z = y + 1
        assert counted.live == 8 * MB
        del y
        z = z * 3  # two of them while it is made
        del z
    assert (counted.live, counted.peak) == (0, 8 * MB)


def test_what_a_backward_pass_needs_lives_until_then() -> None:
    layers = nn.Sequential(nn.Linear(256, 256), nn.GELU(), nn.Linear(256, 256)).to(META)
    x = torch.empty(1024, 256, device=META)
    with LiveBytes() as counted:
        loss = layers(x).sum()
        kept = counted.live
        torch.autograd.backward(loss)
    with torch.no_grad(), LiveBytes() as without:
        layers(x)
    assert kept >= 2 * x.nbytes > without.live == 0
    assert counted.peak >= kept


def test_a_model_without_weights_has_the_shapes_of_the_loaded_one(tiny_base_dir: Path) -> None:
    loaded = load_model(str(tiny_base_dir), device="cpu")
    for empty in (empty_model(tiny_base_dir, torch.float32), weightless(loaded)):
        assert {name: one.shape for name, one in empty.denoiser.state_dict().items()} == {
            name: one.shape for name, one in loaded.denoiser.state_dict().items()
        }
        assert {one.device for one in empty.denoiser.parameters()} == {META}
        assert weight_bytes(*empty.parts.values()) == weight_bytes(*loaded.parts.values())
    assert loaded.denoiser.conv_in.weight.device.type == "cpu"  # the twin took nothing from it


def test_half_precision_halves_all_but_the_autoencoder(tiny_base_dir: Path) -> None:
    whole, half = (empty_model(tiny_base_dir, one) for one in (torch.float32, torch.bfloat16))
    assert 2 * weight_bytes(half.denoiser) == weight_bytes(whole.denoiser)
    assert weight_bytes(half.vae) == weight_bytes(whole.vae)
    assert Footprint.of(half).forward < Footprint.of(whole).forward


def test_a_larger_model_and_larger_pictures_need_more(tmp_path: Path) -> None:
    small, deep, wide = (
        Footprint.of(empty_model(make_tiny_base(tmp_path / name, **unet), torch.float32))
        for name, unet in (("small", {}), ("deep", DEEP), ("wide", {**DEEP, "sample_size": 16}))
    )
    assert small.weights < deep.weights == wide.weights
    assert 3.5 < wide.decode / deep.decode < 4.5  # four times the pixels
    assert deep.forward < wide.forward


def test_a_configuration_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    folder = make_tiny_base(tmp_path / "base")
    (folder / "unet" / "config.json").write_text('{"block_out_channels": 3}')
    with pytest.raises(BaseModelError, match="cannot be read"):
        empty_model(folder, torch.float32)


@pytest.mark.parametrize("absent", [None, [None, None]])
def test_a_part_that_is_left_out_is_not_counted(
    family_dir: FamilyDir, tmp_path: Path, absent: object
) -> None:
    """However model_index.json says so."""
    home = Path(shutil.copytree(family_dir("sd3-without-t5"), tmp_path / "base"))
    index = json.loads((home / "model_index.json").read_text())
    parts = {"text_encoder_3": absent, "tokenizer_3": absent}
    (home / "model_index.json").write_text(json.dumps({**index, **parts}))
    check_model(home, "base")
    assert "text_encoder_3" not in empty_model(home, torch.float32).parts
