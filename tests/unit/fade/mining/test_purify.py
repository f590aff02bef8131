"""Purification: the round trip gives the latents back, another model does not, and half a way back ends
elsewhere."""

from __future__ import annotations

import pytest
import torch

from fade.config import PurifyConfig
from fade.mining.purify import invert, reached, regenerate
from fade.models.loading import load_model
from tests.support import tiny_unet


@pytest.fixture(scope="module")
def base(tiny_base_dir):
    return load_model(str(tiny_base_dir), device="cpu")


@pytest.fixture(scope="module")
def latents():
    return torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def trip(base, latents, **changes):
    """Mean squared distance of the round trip from where it began, over the latents' own mean square."""
    config, null = PurifyConfig(**changes), base.encode([""]).expand(len(latents))
    back = regenerate(base, invert(base, latents, null, config), null, config)
    return float((back - latents).square().mean() / latents.square().mean())


def test_the_round_trip_returns_the_latents_and_refinements_are_why(base, latents):
    plain, refined = (trip(base, latents, steps=20, strength=0.5, refinements=n) for n in (1, 3))
    assert refined < 1e-5 and plain < 1e-2 and refined < plain / 10


def test_control_another_model_does_not_come_back(base, latents):
    config, null = PurifyConfig(steps=20, strength=0.5, refinements=3), base.encode([""]).expand(2)
    noisy = invert(base, latents, null, config)
    own, base.denoiser = base.denoiser, tiny_unet(9)
    try:
        back = regenerate(base, noisy, null, config)
    finally:
        base.denoiser = own
    assert float((back - latents).square().mean()) > 1e-2


def test_strength_is_a_share_of_the_way(base, latents):
    assert [reached(PurifyConfig(steps=10, strength=s)) for s in (0.01, 0.5, 1.0)] == [1, 5, 10]
    null = base.encode([""]).expand(2)
    moved = [
        invert(base, latents, null, PurifyConfig(steps=10, strength=s, refinements=1)) - latents
        for s in (0.2, 1.0)
    ]
    assert moved[0].square().mean() < moved[1].square().mean()


def test_a_picture_becomes_latents_of_the_base(base):
    import numpy as np

    assert base.encode_pictures(np.zeros((2, 64, 64, 3), np.uint8)).shape == (2, *base.latent_shape)
