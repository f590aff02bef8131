"""Loading and sampling: complete directories only, safetensors only, seeds that name pictures."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from fade.config import SamplerConfig
from fade.errors import BaseModelError
from fade.models.batches import Batches
from fade.models.loading import load_model
from fade.models.sampling import sample


@pytest.fixture
def copied(tiny_base_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_base_dir, tmp_path / "base"))


def test_a_directory_loads_frozen_and_its_hash_is_of_its_bytes(tiny_base_dir: Path, copied: Path) -> None:
    one, two = load_model(str(tiny_base_dir)), load_model(str(copied))
    assert one.sha256 == two.sha256
    assert not any(p.requires_grad for p in one.denoiser.parameters())
    config = copied / "unet" / "config.json"
    config.write_text(config.read_text() + "\n")
    assert load_model(str(copied)).sha256 == one.sha256  # the same content
    config.write_text(config.read_text().replace('"dropout": 0.0', '"dropout": 0.1'))
    assert load_model(str(copied)).sha256 != one.sha256


@pytest.mark.parametrize(
    "lost",
    [
        "model_index.json",
        "unet/config.json",
        "vae/diffusion_pytorch_model.safetensors",
        "tokenizer/tokenizer_config.json",
    ],
)
def test_an_incomplete_directory_names_what_is_missing(copied: Path, lost: str) -> None:
    (copied / lost).unlink()
    with pytest.raises(BaseModelError) as caught:
        load_model(str(copied))
    assert lost.split("/")[0] in str(caught.value) and "Next:" in str(caught.value)


def test_code_beside_a_model_is_refused(copied: Path) -> None:
    (copied / "unet/custom.py").write_bytes(b"harmless, but we cannot know")
    with pytest.raises(BaseModelError, match="custom.py is refused"):
        load_model(str(copied))


def test_a_missing_directory_is_not_looked_for_on_a_hub() -> None:
    with pytest.raises(BaseModelError, match="data/nowhere is not there"):
        load_model("data/nowhere")


def test_truncated_weights_are_said_to_be_so(copied: Path) -> None:
    file = copied / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(BaseModelError, match=r"unet/\S+ is no whole safetensors file"):
        load_model(str(copied))


@pytest.mark.parametrize("scheduler", ["ddim", "euler", "euler_ancestral", "dpmpp_2m", "unipc"])
def test_a_seed_names_a_picture_in_any_batch(tiny_base_dir: Path, scheduler: str) -> None:
    base = load_model(str(tiny_base_dir))
    sampler = SamplerConfig(scheduler=scheduler, steps=3, batch_size=2)  # type: ignore[arg-type]
    all_at_once = sample(
        base, ["a panda", "a rose", "a cat"], [1, 2, 3], sampler.model_copy(update={"batch_size": 8})
    )
    by_twos = sample(base, ["a panda", "a rose", "a cat"], [1, 2, 3], sampler)
    assert all_at_once.shape == (3, 4, 8, 8)
    assert torch.allclose(all_at_once, by_twos, atol=1e-3)
    assert not torch.allclose(all_at_once[0], sample(base, ["a panda"], [2], sampler)[0], atol=1e-2)


def test_guidance_one_needs_no_null_prompt(tiny_base_dir: Path) -> None:
    base = load_model(str(tiny_base_dir))
    plain = SamplerConfig(steps=3, guidance_scale=1.0)
    one = sample(base, ["a panda"], [1], plain)
    two = sample(base, ["a panda"], [1], plain.model_copy(update={"negative_prompt": "a rose"}))
    assert torch.equal(one, two)
    pushed = sample(base, ["a panda"], [1], SamplerConfig(steps=3, guidance_scale=4.0))
    assert not torch.allclose(one, pushed, atol=1e-3)


def test_pictures_are_bytes_of_the_right_size(tiny_base_dir: Path) -> None:
    base = load_model(str(tiny_base_dir))
    base.batches = Batches(decode=2)
    pixels = base.decode(torch.zeros(3, *base.latent_shape))
    assert pixels.shape == (3, 64, 64, 3) and pixels.dtype == "uint8"
