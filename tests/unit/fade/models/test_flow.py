"""Flow matching: one solver, on the model's own schedule."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fade.config import SamplerConfig
from fade.errors import UsageError
from fade.models.capabilities import DDIM, NULL_PROMPT, TEXT_STATES
from fade.models.loading import load_model


@pytest.mark.parametrize("scheduler", ["ddim", "euler_ancestral", "dpmpp_2m", "unipc"])
@pytest.mark.parametrize("name", ["sd3", "flux-dev"])
def test_other_solvers_are_refused_and_the_setting_is_named(
    name: str, scheduler: str, family_dir: Callable[[str], Path]
) -> None:
    model = load_model(str(family_dir(name)))
    sampler = SamplerConfig(scheduler=scheduler, steps=2)  # type: ignore[arg-type]
    with pytest.raises(UsageError) as caught:
        model.solver(sampler)
    assert scheduler in str(caught.value) and "Next: set sampler.scheduler=euler." in str(caught.value)
    assert len(model.solver(sampler.model_copy(update={"scheduler": "euler"})).timesteps) == 2  # control


def test_the_schedule_is_the_models_own(family_dir: Callable[[str], Path]) -> None:
    times = {}
    for name in ("sd3", "flux-dev", "flux-schnell"):
        model = load_model(str(family_dir(name)))
        times[name] = model.solver(
            SamplerConfig(scheduler="euler", steps=2, guidance_scale=1)
        ).timesteps.tolist()
    assert times["flux-schnell"] == [1000.0, 500.0]  # shift 1
    # shift 3 over 1 ... 1/1000; diffusers applies it to the last one twice
    assert times["sd3"] == pytest.approx([1000.0, 8.93], abs=0.01)
    # 16 tokens: mu = .5 + (16 - 256) (1.15 - .5) / 3840 = .4594, and s = e^mu / (e^mu + 1) for s = 1/2
    assert times["flux-dev"] == pytest.approx([1000.0, 612.87], abs=0.01)


def test_stable_diffusion_3_has_a_null_prompt_and_no_inversion(family_dir: Callable[[str], Path]) -> None:
    assert load_model(str(family_dir("sd3"))).capabilities == {NULL_PROMPT, TEXT_STATES}
    assert DDIM in load_model(str(family_dir("sd1"))).capabilities  # control
