"""A world of every family is built from drawings by a few steps, passes the gate and makes pictures."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file

from fade.config import PretrainConfig, SamplerConfig
from fade.errors import DataError
from fade.judges.classifier import Classifier
from fade.mining.image_encoder import ImageEncoder
from fade.models.loading import load_model
from fade.models.sampling import sample
from fade.pretrain import build, drawings, second_judge, text
from tests.models_of_families import open_pipeline
from tests.unit.fade.pretrain.test_second_judge import package_weights

CONCEPTS = ("red ball", "blue box", "green leaf", "red hat")
STYLES = {"ink": "one", "chalk": "two", "kept": "three"}
FIT = {"steps": 2, "batch_size": 4, "lr": 1e-3}
TOWER = {**FIT, "hidden": 32, "layers": 2, "heads": 2}
DENOISER = {**FIT, "channels": [16, 16], "layers": 2, "width": 32, "heads": 2}
SMALL = PretrainConfig.model_validate(
    {
        "bank": 16,
        "emphasised": ["things"],
        "text": TOWER,
        "text_spelled": FIT,
        "text_2": {**TOWER, "hidden": 48, "activation": "gelu"},
        "t5": {**TOWER, "hidden": 80, "activation": "gelu"},
        "sight": {**TOWER, "hidden": 16},
        "codec": FIT,
        "autoencoder": {**FIT, "channels": [16, 20, 24, 64], "latent_channels": 4},
        "judge": {**FIT, "channels": [8, 8]},
        "second": {**FIT, "side": 32},
        "styles": {**FIT, "channels": [8, 8]},
        "unet": DENOISER,
        "unet_restart": FIT,
        "unet_restart_2": {**FIT, "extra_pairs": 0.5},
        "unet_restart_3": FIT,
        "unet_xl": DENOISER,
        "transformer": DENOISER,
    }
)


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Drawings of four things in two training styles and a held-out one: coloured squares, without the
    packages of the registries."""
    folder = tmp_path_factory.mktemp("packages")
    icons = ", ".join(
        f'"{name.replace(" ", "-")}": {{"body": "{name}"}}' for name in (*CONCEPTS, "old clock")
    )
    for style in STYLES:
        (folder / style).mkdir()
        (folder / style / "icons.json").write_text(f'{{"width": 8, "height": 8, "icons": {{{icons}}}}}')
    sources = {
        style: {"package": style, "version": "1", "licence": "MIT", "artist": artist}
        for style, artist in STYLES.items()
    }
    families = {"things": {"kind": "loose", "concepts": {name: {} for name in CONCEPTS}}}
    recipe = {"styles": sources, "heldout_artist": "three", "families": families, "sisters": {}}

    def paint(svg_string: str, **_: Any) -> bytes:
        buffer = BytesIO()
        colour = np.random.default_rng(list(svg_string.encode())).integers(0, 200, 3)
        Image.new("RGBA", (64, 48), (*colour.tolist(), 255)).save(buffer, "PNG")
        return buffer.getvalue()

    def embeddings(names: list[str], package: str) -> dict[str, torch.Tensor]:
        rows = torch.randn(len(names), 16, generator=torch.Generator().manual_seed(0))
        return dict(zip(names, F.normalize(rows, dim=-1), strict=True))

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "resvg_py", SimpleNamespace(svg_to_bytes=paint))
        patch.setattr(drawings, "load_recipe", lambda: recipe)
        patch.setattr(text, "teacher_embeddings", embeddings)
        patch.setattr(second_judge, "load_weights", lambda package: package_weights())
        yield folder


@pytest.fixture(scope="module")
def sd(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make("sd", packages, tmp_path_factory.mktemp("sd"))


def make(family: str, packages: Path, work: Path, parts: Path | None = None) -> Path:
    config = SMALL.model_copy(update={"packages": packages})
    return build.build(work, family, config, lambda *_: None, parts)


def makes_pictures(base: Path) -> None:
    """By our solver, and by diffusers' own pipeline of the family."""
    model = load_model(str(base))
    pixels = model.decode(sample(model, ["a red ball"], [0], SamplerConfig(scheduler="euler", steps=2)))
    assert pixels.shape == (1, 64, 64, 3) and pixels.std() > 0
    pipeline = open_pipeline(base)
    assert {part.dtype for part in (pipeline.vae, pipeline.text_encoder)} == {torch.float32}
    options = {"output_type": "np", "num_inference_steps": 2, "height": 64, "width": 64}
    assert np.isfinite(pipeline("a red ball", **options).images).all()


def test_stable_diffusions_world_has_every_part(sd: Path) -> None:
    makes_pictures(sd / "base")
    stored = [load_file(file) for file in (sd / "base").rglob("*.safetensors")]
    assert {weight.dtype for weights in stored for weight in weights.values()} == {
        torch.float16
    }  # half the size
    assert ImageEncoder(str(sd / "base" / "clip")).text(["a red ball"]).shape == (1, 32)
    assert Classifier(str(sd / "judge"), "cpu").labels == list(CONCEPTS)
    assert Classifier(str(sd / "judge" / "styles"), "cpu").labels == ["chalk", "ink"]
    assert Classifier(str(sd / "judge" / "second"), "cpu").labels == list(CONCEPTS)
    assert len(list((sd / "emoji").rglob("*.png"))) == len(CONCEPTS) * len(STYLES)


def test_the_unet_is_trained_again_from_what_its_first_training_left(sd: Path) -> None:
    name = "diffusion_pytorch_model.safetensors"
    first, last = (
        load_file(folder / name) for folder in (sd.parent / "unet" / "model", sd / "base" / "unet")
    )
    moved = {key: float((last[key].float() - first[key].float()).abs().max()) for key in first}
    # a step of AdamW moves a weight by about the rate, and there were six; another random start is far away
    assert 0 < max(moved.values()) < 12 * FIT["lr"]


def test_the_base_and_its_clip_have_the_tower_that_reads_past_spelled_words(sd: Path) -> None:
    spelled, first, base = (
        load_file(folder / "model.safetensors")
        for folder in (
            sd.parent / "text_spelled" / "model",
            sd.parent / "text" / "model",
            sd / "base" / "text_encoder",
        )
    )
    clip = load_file(sd / "base" / "clip" / "model.safetensors")
    assert all(torch.equal(weight, spelled[name]) for name, weight in base.items())
    assert all(torch.equal(clip[name], weight) for name, weight in base.items())
    assert any(not torch.equal(weight, first[name]) for name, weight in base.items())


def test_sdxls_unet_begins_with_sds_but_for_what_reads_the_prompt(
    sd: Path, packages: Path, tmp_path: Path
) -> None:
    name = "diffusion_pytorch_model.safetensors"
    made = make("sdxl", packages, tmp_path, parts=sd)
    first, begun = (load_file(world / "base" / "unet" / name) for world in (sd, made))
    moved = {
        key: float((weight.float() - first[key].float().view_as(weight)).abs().max())
        for key, weight in begun.items()
        if key in first and weight.numel() == first[key].numel()
    }
    # two steps of AdamW move a weight by about twice the rate
    assert len(moved) > 100 and 0 < max(moved.values()) < 4 * FIT["lr"]
    others = {key for key in begun if key not in moved}
    assert others and all(".attn2.to_" in key or "add_embedding" in key for key in others)


@pytest.mark.parametrize("family", ["sdxl", "sd3"])
def test_another_family_stands_on_its_parts(sd: Path, packages: Path, tmp_path: Path, family: str) -> None:
    made = make(family, packages, tmp_path, parts=sd)
    makes_pictures(made / "base")
    assert [path.name for path in made.iterdir()] == ["base"]
    for part in ("vae/config.json", "vae/diffusion_pytorch_model.safetensors"):
        assert (made / "base" / part).read_bytes() == (sd / "base" / part).read_bytes()


def test_a_finished_stage_is_kept_and_a_world_of_other_pictures_is_no_part(
    sd: Path, packages: Path, tmp_path: Path
) -> None:
    weights = (sd / "base" / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()
    again = make("sd", packages, sd.parent)
    assert (again / "base" / "unet" / "diffusion_pytorch_model.safetensors").read_bytes() == weights
    next((sd / "emoji").rglob("*.png")).write_bytes(b"another")
    with pytest.raises(DataError, match=r"are not those of fade/pretrain/vocabulary\.yaml"):
        make("sdxl", packages, tmp_path, parts=sd)
    assert not (tmp_path / "text_2").exists()  # refused before a training is begun
