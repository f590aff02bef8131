"""A picture's key holds what decides the picture."""

from __future__ import annotations

from pathlib import Path

import torch

from fade.config import SamplerConfig
from fade.generation.cache import Cache
from fade.generation.generator import ImageGenerator
from fade.models.batches import Batches
from fade.models.loading import load_model


def test_the_precision_of_the_weights_is_in_a_pictures_key_and_the_batches_are_not(
    tiny_base_dir: Path, tmp_path: Path
) -> None:
    whole, half = (
        load_model(str(tiny_base_dir), device="cpu", dtype=one) for one in (torch.float32, torch.bfloat16)
    )
    keys = [
        ImageGenerator(base, SamplerConfig(), Cache(tmp_path)).key("a panda", [0]) for base in (whole, half)
    ]
    assert keys[0] != keys[1]
    whole.batches = Batches(sample=2, decode=1)
    assert ImageGenerator(whole, SamplerConfig(), Cache(tmp_path)).key("a panda", [0]) == keys[0]


def test_fewer_pictures_at_once_are_the_same_pictures(tiny_base_dir: Path, tmp_path: Path) -> None:
    base = load_model(str(tiny_base_dir), device="cpu")
    sampler = SamplerConfig(steps=2, batch_size=8)
    prompts, seeds = ["a panda", "a rose"], [0, 1, 2]
    made = []
    for i, batches in enumerate((Batches(), Batches(sample=2, decode=1))):
        base.batches = batches
        pictures = ImageGenerator(base, sampler, Cache(tmp_path / str(i))).generate(prompts, seeds)
        made.append(torch.cat([pictures[prompt].latents for prompt in prompts]))
    assert made[0].shape == made[1].shape == (6, *base.latent_shape)
    assert torch.allclose(*made, atol=1e-3)
