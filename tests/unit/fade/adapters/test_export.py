"""Exports by readers that are not ours: diffusers' kohya loader, kohya's rule on bare tensors, plain
diffusers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from fade.adapters.export import kohya_file, write_merged
from fade.adapters.lora import LoraAdapter
from fade.errors import AdapterError
from fade.models.loading import load_model
from tests.support import DEEP, make_tiny_base
from tests.unit.fade.adapters.foreign import by_kohyas_rule, filled, latents_of, merged, plain_pipeline, saved


@pytest.fixture(scope="module", params=[False, True], ids=["conv projections", "linear projections"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    home = make_tiny_base(tmp_path_factory.mktemp("base"), **DEEP, use_linear_projection=request.param)
    return load_model(str(home), device="cpu")


@pytest.fixture
def ours(base: Any, tmp_path: Path) -> Path:
    return saved(base, tmp_path / "ours.safetensors")


@pytest.fixture
def theirs(base: Any, ours: Path, tmp_path: Path) -> Path:
    lora, path = LoraAdapter.load(base, ours), tmp_path / "kohya.safetensors"
    path.write_bytes(kohya_file(lora, {"fade_concept": "panda"}))
    lora.remove()
    return path


def loaded(base: Any, path: Path) -> Any:
    pipe = plain_pipeline(base.path)
    pipe.load_lora_weights(str(path.parent), weight_name=path.name)
    return pipe


def test_diffusers_kohya_loader_gives_our_picture(base: Any, ours: Path, theirs: Path) -> None:
    original, ours_latents = latents_of(plain_pipeline(base.path)), latents_of(loaded(base, ours))
    kohya_latents = latents_of(loaded(base, theirs))
    assert (kohya_latents - ours_latents).abs().max() <= 1e-3
    assert (ours_latents - original).abs().max() > 0.05  # the control: the adapter is no small change


def test_kohyas_rule_on_bare_tensors_gives_our_merged_weights(base: Any, ours: Path, theirs: Path) -> None:
    by_rule, our_weights = by_kohyas_rule(base, load_file(theirs)), merged(base, ours)
    assert by_rule.keys() == our_weights.keys()
    assert max((by_rule[name] - our_weights[name]).abs().max() for name in by_rule) <= 1e-6
    without_alpha = {key: one for key, one in load_file(theirs).items() if not key.endswith(".alpha")}
    assert all(torch.equal(one, by_rule[name]) for name, one in by_kohyas_rule(base, without_alpha).items())
    own = base.denoiser.state_dict()
    changed = {name for name in own if not torch.equal(own[name], our_weights[name])}
    assert len(changed) == 4 * 12  # every layer of four transformers, projections included
    with safe_open(theirs, "pt") as file:
        assert file.metadata()["ss_network_dim"] == "4" and file.metadata()["fade_concept"] == "panda"


def test_a_merged_directory_gives_our_picture_in_plain_diffusers(
    base: Any, ours: Path, tmp_path: Path
) -> None:
    before = {name: value.clone() for name, value in base.denoiser.state_dict().items()}
    lora = LoraAdapter.load(base, ours)
    write_merged(lora, tmp_path / "merged")
    lora.remove()
    assert all(torch.equal(value, before[name]) for name, value in base.denoiser.state_dict().items())
    difference = latents_of(plain_pipeline(tmp_path / "merged")) - latents_of(loaded(base, ours))
    assert difference.abs().max() <= 1e-3
    weights = load_file(tmp_path / "merged" / "unet" / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(weights[name], value) for name, value in merged(base, ours).items())
    assert load_model(str(tmp_path / "merged"), device="cpu").sha256 != base.sha256


def test_a_taken_name_stays_as_it_is(base: Any, ours: Path, tmp_path: Path) -> None:
    (tmp_path / "merged").mkdir()
    (tmp_path / "merged" / "kept").write_text("kept")
    lora = LoraAdapter.load(base, ours)
    with pytest.raises(OSError, match="not empty"):
        write_merged(lora, tmp_path / "merged")
    lora.remove()
    assert [one.name for one in (tmp_path / "merged").iterdir()] == ["kept"]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["merged", "ours.safetensors"]


def test_an_adapter_of_zeros_changes_no_picture(base: Any, tmp_path: Path) -> None:
    """Bit for bit: added, fused, and as a merged directory."""
    own = base.denoiser.state_dict()
    for size, same in ((0.0, True), (0.3, False)):
        lora = filled(base, size=size)
        (tmp_path / "kohya.safetensors").write_bytes(kohya_file(lora, {}))
        write_merged(lora, tmp_path / f"merged-{same}")
        lora.remove()
        pipe = plain_pipeline(base.path)
        original = latents_of(pipe)
        pipe.load_lora_weights(str(tmp_path), weight_name="kohya.safetensors")
        assert torch.equal(latents_of(pipe), original) is same
        pipe.fuse_lora()
        assert torch.equal(latents_of(pipe), original) is same
        weights = load_file(tmp_path / f"merged-{same}" / "unet" / "diffusion_pytorch_model.safetensors")
        assert all(torch.equal(weights[name], value) for name, value in own.items()) is same


def test_a_family_without_kohyas_layout_is_refused_by_name(
    base: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lora = filled(base)
    monkeypatch.setattr(type(base), "KOHYA", "")
    with pytest.raises(AdapterError, match="Stable Diffusion has no kohya layout"):
        kohya_file(lora, {})
    lora.remove()


def test_a_merged_model_in_half_precision_is_refused_and_not_the_base(
    base: Any, ours: Path, tmp_path: Path
) -> None:
    half = load_model(base.path, device="cpu", dtype=torch.bfloat16)
    lora = LoraAdapter.load(half, ours)
    with pytest.raises(AdapterError, match="in bfloat16 would be the base") as caught:
        write_merged(lora, tmp_path / "merged")
    lora.remove()
    assert "model.dtype=fp32" in caught.value.action
    assert [one.name for one in tmp_path.iterdir()] == ["ours.safetensors"]


def test_a_name_in_the_index_leads_out_of_no_merged_directory(base: Any, tmp_path: Path) -> None:
    home = Path(shutil.copytree(base.path, tmp_path / "theirs" / "base"))
    index = json.loads((home / "model_index.json").read_text())
    for name in ("..", "../other", "."):
        index[name] = ["diffusers", "UNet2DConditionModel"]
    (home / "model_index.json").write_text(json.dumps(index))
    for folder in (home.parent, home.parent / "other"):
        folder.mkdir(exist_ok=True)
        (folder / "constraints.txt").write_text("theirs")
    model = load_model(str(home), device="cpu")
    lora = LoraAdapter.load(model, saved(model, tmp_path / "adapter.safetensors"))
    write_merged(lora, tmp_path / "mine" / "out")
    assert [one.name for one in (tmp_path / "mine").iterdir()] == ["out"]
