"""Flux: guidance is an input or there is none, and what it lacks is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fade.config import SamplerConfig
from fade.errors import UsageError
from fade.models.capabilities import DDIM, NULL_PROMPT, TEXT_STATES
from fade.models.loading import load_model
from fade.models.sampling import sample

EULER = SamplerConfig(scheduler="euler", steps=2, guidance_scale=1.0)


def test_guidance_is_an_input_of_dev_and_1_in_training(family_dir: Callable[[str], Path]) -> None:
    dev, schnell = (load_model(str(family_dir(name))) for name in ("flux-dev", "flux-schnell"))
    for model in (dev, schnell):
        x, t, cond = model.example(torch.Generator().manual_seed(0))
        other = replace(cond, tokens=cond.tokens + 1)
        with torch.no_grad():
            plain = model.predict(x, t, cond)
            one, four = (model.predict_guided(x, t, cond, cond, scale) for scale in (1.0, 4.0))
            ignored = model.predict_guided(x, t, cond, other, 4.0)
        assert plain.shape == x.shape
        assert torch.equal(one, plain) and torch.equal(four, plain) == (model is schnell)
        assert torch.equal(ignored, four)  # the null prompt is not read


def test_what_distilled_guidance_excludes_is_refused_by_name(family_dir: Callable[[str], Path]) -> None:
    dev, schnell = (load_model(str(family_dir(name))) for name in ("flux-dev", "flux-schnell"))
    negative = EULER.model_copy(update={"negative_prompt": "a rose"})
    scaled = EULER.model_copy(update={"guidance_scale": 3.5})
    within = scaled.model_copy(update={"guidance_interval": (0.2, 0.8)})
    for model, sampler, key in [
        (dev, negative, 'sampler.negative_prompt=""'),
        (schnell, negative, 'sampler.negative_prompt=""'),
        (schnell, scaled, "sampler.guidance_scale=1"),
        (dev, within, "sampler.guidance_interval=[0,1]"),
    ]:
        with pytest.raises(UsageError) as caught:
            sample(model, ["a panda"], [1], sampler)
        assert f"Next: set {key}." in str(caught.value)
    for model, sampler in [(dev, scaled), (dev, EULER), (schnell, EULER)]:  # control
        assert torch.isfinite(sample(model, ["a panda"], [1], sampler)).all()


def test_only_dev_has_a_null_prompt(family_dir: Callable[[str], Path]) -> None:
    dev, schnell = (load_model(str(family_dir(name))) for name in ("flux-dev", "flux-schnell"))
    assert dev.capabilities == {NULL_PROMPT, TEXT_STATES} and schnell.capabilities == {TEXT_STATES}
    dev.require(NULL_PROMPT, "method esd")
    with pytest.raises(UsageError, match="method esd cannot be used with .* Flux has no null prompt"):
        schnell.require(NULL_PROMPT, "method esd")
    with pytest.raises(UsageError, match="predicts a velocity"):
        dev.require(DDIM, "purification")
