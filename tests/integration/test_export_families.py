"""Exports and foreign adapters of every family, in the family's own pipeline of diffusers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fade.adapters.export import kohya_file, write_merged
from fade.adapters.foreign import read_foreign_lora
from fade.adapters.foreign_model import read_foreign_model
from fade.adapters.kohya import kohya_layers
from fade.adapters.lora import LoraAdapter
from fade.errors import AdapterError
from fade.models.loading import load_model
from tests.unit.fade.adapters.foreign import foreign_layers, kohya, merged, saved

families = pytest.importorskip("tests.models_of_families", reason="the families are not there yet")


def latents(pipe: Any) -> torch.Tensor:
    how = {"num_inference_steps": 3, "output_type": "latent", "height": 64, "width": 64}
    result: torch.Tensor = pipe("a panda", generator=torch.Generator().manual_seed(0), **how).images
    return result


def loaded(home: Path, adapter: Path) -> Any:
    pipe = families.open_pipeline(home)
    pipe.load_lora_weights(str(adapter.parent), weight_name=adapter.name)
    return pipe


@pytest.mark.parametrize("name", ["sd2", "sdxl", "sd3-without-t5", "sd35", "flux-dev"])
def test_every_format_gives_our_picture_in_the_familys_own_pipeline(tmp_path: Path, name: str) -> None:
    home = families.make_family(tmp_path / "base", name)
    base = load_model(str(home), device="cpu")
    ours = saved(base, tmp_path / "ours.safetensors")
    picture, weights = latents(loaded(home, ours)), merged(base, ours)
    assert (picture - latents(families.open_pipeline(home))).abs().max() > 0.05  # the control
    lora = LoraAdapter.load(base, ours)
    files = [ours]
    if name in families.UNETS:
        files.append(tmp_path / "kohya.safetensors")
        files[-1].write_bytes(kohya_file(lora, {}))
        assert (latents(loaded(home, files[-1])) - picture).abs().max() <= 1e-3
    else:
        with pytest.raises(AdapterError, match=f"{base.FAMILY} has no kohya layout"):
            kohya_file(lora, {})
    write_merged(lora, tmp_path / "merged")
    lora.remove()
    assert (latents(families.open_pipeline(tmp_path / "merged")) - picture).abs().max() <= 1e-3
    for read in (
        *(read_foreign_lora(base, file) for file in files),
        read_foreign_model(base, tmp_path / "merged"),
    ):
        assert all(torch.allclose(value, weights[key], atol=1e-6) for key, value in read.weights.items())
        assert len(read.weights) == len(base.layers(("all",)))


def test_sd_scripts_names_of_sdxl_are_read_as_diffusers_reads_them(tmp_path: Path) -> None:
    """Without alpha: where layers' alphas differ, diffusers' kohya loader (0.42.1) ignores those of attention
    layers, with a warning. Our export bakes it in."""
    home = families.make_family(tmp_path / "base", "sdxl")
    base = load_model(str(home), device="cpu")
    layers, names = foreign_layers(base, size=0.1), kohya_layers(base)
    original = {
        layer: name.removeprefix(base.KOHYA)
        for name, layer in names.items()
        if "_block_1_" in name or "put_blocks_" in name
    }
    plain = kohya(layers, tmp_path / "plain.safetensors", alpha=False)
    theirs = kohya(layers, tmp_path / "theirs.safetensors", alpha=False, name=original.__getitem__)
    assert (latents(loaded(home, theirs)) - latents(loaded(home, plain))).abs().max() <= 1e-4
    one, other = (read_foreign_lora(base, file).weights for file in (plain, theirs))
    assert one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())
