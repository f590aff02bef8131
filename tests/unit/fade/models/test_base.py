"""Loading and sampling: complete directories only, safetensors only, seeds that name pictures."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fade.config import SamplerConfig
from fade.errors import BaseModelError, UsageError
from fade.models.batches import Batches
from fade.models.conditioning import Conditioning
from fade.models.loading import load_model
from fade.models.sampling import sample
from tests.models_of_families import TOKENS


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


def test_guidance_acts_within_its_interval_alone(
    tiny_base_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten steps at 1000, 900, ..., 100 of 1000 times (trailing; the first is 999)."""
    base, scales = load_model(str(tiny_base_dir)), dict[float, float]()
    guided = base.predict_guided

    def record(x: Tensor, t: Tensor, cond: Conditioning, null: Conditioning, scale: float) -> Tensor:
        scales[round(float(t[0]) / 1000, 1)] = scale
        return guided(x, t, cond, null, scale)

    monkeypatch.setattr(base, "predict_guided", record)
    config = SamplerConfig(steps=10, guidance_scale=4.0)
    whole = sample(base, ["a panda"], [1], config)
    assert set(scales.values()) == {4.0} and len(scales) == 10
    part = sample(base, ["a panda"], [1], config.model_copy(update={"guidance_interval": (0.25, 0.75)}))
    assert {time for time, scale in scales.items() if scale == 4.0} == {0.3, 0.4, 0.5, 0.6, 0.7}
    assert {scale for time, scale in scales.items() if not 0.25 < time < 0.75} == {1.0}
    assert not torch.allclose(whole, part, atol=1e-3)


def test_pictures_are_bytes_of_the_right_size(tiny_base_dir: Path) -> None:
    base = load_model(str(tiny_base_dir))
    base.batches = Batches(decode=2)
    pixels = base.decode(torch.zeros(3, *base.latent_shape))
    assert pixels.shape == (3, 64, 64, 3) and pixels.dtype == "uint8"


@pytest.mark.parametrize(
    ("family", "blocks"),
    [
        ("sd1", [("tokenizer", 0, None)]),
        ("sdxl", [("tokenizer", 0, None)]),
        ("sd3", [("tokenizer", 0, TOKENS), ("tokenizer_3", TOKENS, None)]),
        ("sd3-without-t5", [("tokenizer", 0, TOKENS)]),
        ("flux-dev", [("tokenizer_2", 0, None)]),
    ],
)
def test_a_name_is_found_in_every_text_encoders_tokens(
    family: str, blocks: list[tuple[str, int, int | None]], family_dir: Callable[[str], Path]
) -> None:
    """Its last token is the one before which the prompts "a panda bear" and "a panda tulip" read alike."""
    model = load_model(str(family_dir(family)), device="cpu")
    spans = model.name_to_end("a {concept} in the style", "panda bear")
    assert [span.stop for span in spans] == [stop for _, _, stop in blocks]
    for span, (tokenizer, start, _) in zip(spans, blocks, strict=True):
        one, two = (
            model.parts[tokenizer](f"a panda {word} in the style")["input_ids"] for word in ("bear", "tulip")
        )
        length = len(model.parts[tokenizer]("bear", add_special_tokens=False)["input_ids"])
        first = next(i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b)
        assert start + first <= span.start < start + first + length
        assert span.start - start < len(one) - 1  # before the end token


def test_a_role_of_layers_that_a_family_lacks_is_refused(family_dir: Callable[[str], Path]) -> None:
    sd1, sd3 = (load_model(str(family_dir(name)), device="cpu") for name in ("sd1", "sd3"))
    for model in (sd1, sd3):
        model.require_roles(["all", "text", "attn.to_q"], "here")
    sd1.require_roles(["self"], "here")
    with pytest.raises(UsageError, match=r"mesh.targets self cannot be used with here: no layers of Stable"):
        sd3.require_roles(["self"], "here")
