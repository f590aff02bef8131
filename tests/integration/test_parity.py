"""Every family against diffusers' own pipeline, schedulers and autoencoder: the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.training_utils import compute_density_for_timestep_sampling
from torch import Tensor

from fade.config import SamplerConfig
from fade.models.loading import load_model
from fade.models.sampling import initial_noise, sample, solve
from fade.utils.seeds import named_seed
from tests.models_of_families import FAMILIES, FLOWS, T5_TOKENS, UNETS, open_pipeline

PROMPTS, SEEDS = ["a panda in the style", "a rose"], [1, 2]
SOLVERS = {
    "ddim": diffusers.DDIMScheduler,
    "euler": diffusers.EulerDiscreteScheduler,
    "euler_ancestral": diffusers.EulerAncestralDiscreteScheduler,
    "dpmpp_2m": diffusers.DPMSolverMultistepScheduler,
    "unipc": diffusers.UniPCMultistepScheduler,
}
SPACINGS = ("leading", "trailing", "linspace")


@pytest.fixture(scope="module", params=list(FAMILIES))
def family(request: pytest.FixtureRequest, family_dir: Callable[[str], Path]) -> Any:
    """Name, our model and diffusers' pipeline of one family."""
    folder = family_dir(request.param)
    return request.param, load_model(str(folder)), open_pipeline(folder)


def only(*names: str) -> Any:
    """Run a test for these families alone."""
    return pytest.mark.parametrize("family", names, indirect=True)


def sampler_of(name: str, **changes: Any) -> SamplerConfig:
    solver = "euler" if name in FLOWS else "dpmpp_2m"
    scale = 1.0 if name == "flux-schnell" else 4.0
    return SamplerConfig(**{"scheduler": solver, "steps": 3, "guidance_scale": scale, **changes})


def latents_of_pipeline(name: str, pipeline: Any, shape: tuple[int, ...], sampler: SamplerConfig) -> Tensor:
    """(2, C, h, w) of the pipeline's own call for PROMPTS and SEEDS."""
    noise, size = initial_noise(SEEDS, shape), shape[-1] * 8
    options: dict[str, Any] = {"num_inference_steps": sampler.steps, "guidance_scale": sampler.guidance_scale}
    if sampler.negative_prompt:
        options["negative_prompt"] = [sampler.negative_prompt] * len(PROMPTS)
    if name in UNETS:
        given = pipeline.scheduler.config
        kind = SOLVERS[sampler.scheduler]
        pipeline.scheduler = kind.from_config(given, timestep_spacing=sampler.spacing)
        options["generator"] = [torch.Generator().manual_seed(named_seed(s, "ancestral")) for s in SEEDS]
    else:
        options["max_sequence_length"] = 256 if name == "sd3-without-t5" else T5_TOKENS
    flux = name.startswith("flux")
    start = pipeline._pack_latents(noise, *noise.shape) if flux else noise
    out = pipeline(PROMPTS, latents=start, height=size, width=size, output_type="latent", **options).images
    if name in UNETS:
        pipeline.scheduler = type(pipeline.scheduler).from_config(given)
    return pipeline._unpack_latents(out, size, size, 8) if flux else out


def both(family: Any, sampler: SamplerConfig) -> tuple[Tensor, Tensor]:
    """Our latents (2, C, h, w) and the pipeline's."""
    name, model, pipeline = family
    ours = sample(model, PROMPTS, SEEDS, sampler)
    return ours, latents_of_pipeline(name, pipeline, model.latent_shape, sampler)


def distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


def test_latents_equal_those_of_the_pipeline(family: Any) -> None:
    name, sampler = family[0], sampler_of(family[0])
    made = {"plain": both(family, sampler)}
    if name == "flux-schnell":
        made["other"] = both(family, sampler_of(name, steps=4))
    else:
        made["other"] = both(family, sampler_of(name, guidance_scale=1.0))
    if not name.startswith("flux"):
        made["negative"] = both(family, sampler_of(name, negative_prompt="a cat"))
    found = {key: distance(*pair) for key, pair in made.items()}
    assert max(found.values()) <= 1e-4
    assert distance(made["plain"][0], made["other"][1]) > 1e-3  # control


@only(*UNETS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_and_spacing_equals_diffusers_own(family: Any, solver: str) -> None:
    samplers = {one: sampler_of(family[0], scheduler=solver, spacing=one) for one in SPACINGS}
    made = {spacing: both(family, sampler) for spacing, sampler in samplers.items()}
    found = {spacing: distance(*pair) for spacing, pair in made.items()}
    assert max(found.values()) <= 1e-4
    assert distance(made["leading"][0], made["trailing"][1]) > 1e-3  # control


def random_latents(shape: tuple[int, ...], times: int) -> tuple[Tensor, Tensor]:
    """Clean latents and noise (times, C, h, w)."""
    generator = torch.Generator().manual_seed(3)
    clean, noise = (torch.randn(times, *shape, generator=generator) for _ in range(2))
    return clean, noise


@only(*UNETS)
def test_noise_and_target_are_the_schedulers_own(family: Any) -> None:
    _, model, pipeline = family
    scheduler = diffusers.DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    scheduler.set_timesteps(1000)
    t = torch.tensor([0, 1, 500, 998])
    clean, noise = random_latents(model.latent_shape, len(t))
    x = model.add_noise(clean, noise, t)
    assert torch.equal(x, scheduler.add_noise(clean, noise, t))
    target = model.target(clean, noise, t)
    for i in range(
        len(t)
    ):  # the scheduler reads the clean latents and the noise back from x_t and the target
        step = scheduler.step(target[i], int(t[i]), x[i])
        assert torch.allclose(step.pred_original_sample, clean[i], atol=2e-3)
    assert torch.allclose(model.to_noise(target, x, t), noise, atol=1e-4)
    other = scheduler.config.prediction_type == "v_prediction"
    assert torch.allclose(model.to_noise(noise, x, t), noise, atol=1e-4) != other  # control: v is no noise


@only("zero-snr")
def test_the_last_time_of_zero_snr_is_pure_noise(family: Any) -> None:
    model, t = family[1], torch.tensor([999])
    clean, noise = random_latents(model.latent_shape, 1)
    x = model.add_noise(clean, noise, t)
    assert torch.allclose(x, noise, atol=1e-4)
    assert torch.allclose(model.to_noise(model.target(clean, noise, t), x, t), noise, atol=1e-4)
    assert torch.allclose(model.target(clean, noise, t), -clean, atol=1e-4)


@only(*FLOWS)
def test_noise_and_velocity_are_the_schedulers_own(family: Any) -> None:
    name, model, _ = family
    scheduler = model.solver(sampler_of(name, steps=4))
    t = scheduler.timesteps
    clean, noise = random_latents(model.latent_shape, len(t))
    x, target = model.add_noise(clean, noise, t), model.target(clean, noise, t)
    assert torch.allclose(x, scheduler.scale_noise(clean, t, noise), atol=1e-6)
    assert torch.allclose(model.noised(scheduler, clean, noise, t), x)
    assert torch.allclose(model.to_noise(target, x, t), noise, atol=1e-5)
    assert not torch.allclose(
        model.to_noise(noise, x, t), noise, atol=1e-1
    )  # control: a velocity is no noise
    y = x[:1]
    for i, time in enumerate(
        t
    ):  # along the true velocity the solver meets every x_t, and the clean latents last
        assert torch.allclose(y, model.add_noise(clean[:1], noise[:1], t[i : i + 1]), atol=1e-5)
        y = scheduler.step(target[:1], time, y, return_dict=False)[0]
    assert torch.allclose(y, clean[:1], atol=1e-5)
    assert model.times_at(torch.tensor([0.0, 0.25])).tolist() == [0.0, 250.0]


@only("sd3", "flux-dev", "flux-schnell")
def test_training_times_are_those_of_diffusers_scripts(family: Any) -> None:
    name, model, pipeline = family
    ours = model.sample_times(4000, torch.Generator().manual_seed(5))
    given = {"logit_mean": 0.0, "logit_std": 1.0, "generator": torch.Generator().manual_seed(5)}
    u = compute_density_for_timestep_sampling("logit_normal", 4000, **given)
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler.from_config(pipeline.scheduler.config)
    assert torch.equal(ours, scheduler.timesteps[(u * 1000).long()])
    assert (float(ours.mean()) > 600) == (name == "sd3")  # control: only SD3's shift moves them up


@only(*FLOWS)
def test_flow_sampling_starts_at_noise_and_can_start_at_a_picture(family: Any) -> None:
    name, model, _ = family
    sampler = sampler_of(name)
    cond, null = model.encode(PROMPTS), model.encode([""]).expand(2)
    clean = random_latents(model.latent_shape, 2)[0]
    with torch.no_grad():
        whole, part, none = (
            solve(model, cond, null, SEEDS, sampler, clean, share) for share in (1.0, 0.7, 0.0)
        )
    assert torch.allclose(whole, sample(model, PROMPTS, SEEDS, sampler), atol=1e-5)
    assert torch.equal(none, clean)
    assert not torch.allclose(part, whole, atol=1e-2) and not torch.allclose(part, clean, atol=1e-2)


@only("sd1", "sdxl", "sd3", "flux-dev")
def test_pictures_go_through_the_autoencoder_by_its_scale_and_shift(family: Any) -> None:
    _, model, pipeline = family
    vae, scale = pipeline.vae, pipeline.vae.config.scaling_factor
    shift = vae.config.shift_factor or 0
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    latents = model.encode_pictures(pixels)
    with torch.no_grad():
        tensor = pipeline.image_processor.preprocess(pixels.astype(np.float32) / 255)
        mean = vae.encode(tensor).latent_dist.mode()
        assert torch.allclose(latents, (mean - shift) * scale, atol=1e-4)
        image = vae.decode(latents / scale + shift).sample
    theirs = pipeline.image_processor.postprocess(image, output_type="np") * 255
    assert float(np.abs(model.decode(latents).astype(float) - theirs).max()) <= 0.51  # rounding
    assert not torch.allclose(latents, mean, atol=1e-2)  # control: the formula changes something
    assert next(model.vae.parameters()).dtype == torch.float32
