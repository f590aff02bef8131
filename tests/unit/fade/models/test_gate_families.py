"""The gate is one for every family: each part whole, of its class, on its own schedule."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fade.errors import BaseModelError
from fade.models.layout import check_model
from fade.models.loading import load_model

FamilyDir = Callable[[str], Path]
FLOWS = ("sd3", "sd3-without-t5", "sd35", "flux-dev", "flux-schnell")


@pytest.mark.parametrize("family", ["sd1", "sd2", "zero-snr", "sdxl", *FLOWS])
def test_a_part_that_lacks_a_tensor_is_named(family_dir: FamilyDir, tmp_path: Path, family: str) -> None:
    home = Path(shutil.copytree(family_dir(family), tmp_path / "base"))
    parts = [part for part in check_model(home, "base") if part.weights]
    load_model(str(home))  # the control
    for part in parts:
        (file,) = part.weights
        whole = file.read_bytes()
        state = load_file(file)
        name = sorted(state)[-1]
        del state[name]
        save_file(state, file, {"format": "pt"})
        with pytest.raises(BaseModelError, match=rf"base/{part.name} lacks ") as caught:
            load_model(str(home))
        assert name.removeprefix("text_model.") in str(caught.value)
        file.write_bytes(whole)


@pytest.mark.parametrize("family", ["sdxl", *FLOWS])
def test_a_schedule_of_another_kind_is_refused(family_dir: FamilyDir, tmp_path: Path, family: str) -> None:
    home = Path(shutil.copytree(family_dir(family), tmp_path / "base"))
    other = "DDIMScheduler" if family in FLOWS else "FlowMatchEulerDiscreteScheduler"
    _edit(home / "scheduler/scheduler_config.json", _class_name=other)
    with pytest.raises(BaseModelError, match=f"_class_name {other}.*is not supported"):
        check_model(home, "base")


@pytest.mark.parametrize("family", ["sdxl", *FLOWS])
def test_a_denoiser_of_more_channels_is_refused(family_dir: FamilyDir, tmp_path: Path, family: str) -> None:
    home = Path(shutil.copytree(family_dir(family), tmp_path / "base"))
    denoiser = "transformer" if family in FLOWS else "unet"
    _edit(home / denoiser / "config.json", in_channels=384)
    with pytest.raises(BaseModelError, match="384 channels in.*is not supported"):
        check_model(home, "base")


def test_a_unet_without_the_second_encoders_embedding_is_no_xl(family_dir: FamilyDir, tmp_path: Path) -> None:
    home = Path(shutil.copytree(family_dir("sdxl"), tmp_path / "base"))
    _edit(home / "unet/config.json", addition_embed_type=None)
    with pytest.raises(BaseModelError, match="supported: text_time"):
        check_model(home, "base")


def _edit(file: Path, **changes: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize(
    ("family", "file", "change"),
    [
        ("sdxl", "vae/config.json", {"latents_mean": [0.0] * 4, "latents_std": [1.0] * 4}),
        ("sdxl", "scheduler/scheduler_config.json", {"timestep_type": "continuous"}),
        ("sd1", "text_encoder/config.json", {"use_attention_mask": True}),
        ("sd3", "scheduler/scheduler_config.json", {"stochastic_sampling": True}),
        ("flux-dev", "scheduler/scheduler_config.json", {"invert_sigmas": True}),
    ],
)
def test_a_setting_that_would_change_the_pictures_unseen_is_refused(
    family_dir: FamilyDir, tmp_path: Path, family: str, file: str, change: dict[str, object]
) -> None:
    home = Path(shutil.copytree(family_dir(family), tmp_path / "base"))
    check_model(home, "base")
    _edit(home / file, **change)
    with pytest.raises(BaseModelError, match=next(iter(change))):
        check_model(home, "base")


@pytest.mark.parametrize(("family", "part"), [("sd3", "text_encoder_3"), ("flux-dev", "text_encoder_2")])
def test_a_foreign_prefix_of_t5_is_refused_by_name(
    family_dir: FamilyDir, tmp_path: Path, family: str, part: str
) -> None:
    home = Path(shutil.copytree(family_dir(family), tmp_path / "base"))
    (file,) = (home / part).glob("*.safetensors")
    save_file({f"transformer.{name}": one for name, one in load_file(file).items()}, file, {"format": "pt"})
    with pytest.raises(BaseModelError, match=rf"{part} holds transformer\.\S+: .* prefix 'transformer\.'"):
        load_model(str(home))


@pytest.mark.parametrize("family", ["sdxl", "sd3"])
def test_both_layouts_of_every_text_tower_load_equal(
    family_dir: FamilyDir, tmp_path: Path, family: str
) -> None:
    plain = load_model(str(family_dir(family)))
    for prefix in ("text_model.", ""):
        home = Path(shutil.copytree(family_dir(family), tmp_path / f"base{prefix}"))
        for file in (home / part / "model.safetensors" for part in ("text_encoder", "text_encoder_2")):
            state = {name.removeprefix("text_model."): one for name, one in load_file(file).items()}
            outside = {"text_projection.weight"}  # beside the tower
            named = {(name if name in outside else prefix + name): one for name, one in state.items()}
            save_file(named, file, {"format": "pt"})
        model = load_model(str(home))
        assert torch.equal(model.encode(["a panda"]).tokens, plain.encode(["a panda"]).tokens)
        assert model.sha256 == plain.sha256
