"""Sampling in large batches across prompts, by seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fade.config import SamplerConfig
from fade.utils.seeds import named_seed

if TYPE_CHECKING:
    from fade.models.stable_diffusion import Base


def make_scheduler(config: Any, sampler: SamplerConfig) -> Any:
    """The solver named in params on the base's own noise schedule."""
    import diffusers

    name, extra = {
        "ddim": ("DDIMScheduler", {"set_alpha_to_one": False}),
        "euler": ("EulerDiscreteScheduler", {}),
        "euler_ancestral": ("EulerAncestralDiscreteScheduler", {}),
        "dpmpp_2m": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": False}),
        "unipc": ("UniPCMultistepScheduler", {}),
    }[sampler.scheduler]
    return getattr(diffusers, name).from_config(dict(config), timestep_spacing=sampler.spacing, **extra)


def initial_noise(seeds: Sequence[int], shape: tuple[int, ...]) -> Tensor:
    """Standard normal (B, *shape) on the CPU; equal seeds give equal noise on every device and in every
    batch."""
    noise = {s: torch.randn(shape, generator=torch.Generator().manual_seed(int(s))) for s in set(seeds)}
    return torch.stack([noise[s] for s in seeds])


@torch.inference_mode()
def sample(
    base: Base,
    prompts: Sequence[str],
    seeds: Sequence[int],
    sampler: SamplerConfig,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> Tensor:
    """Clean latents (B, C, h, w), float32 on the CPU, one a prompt; the seed alone names a picture's initial
    noise."""
    out = []
    for start in range(0, len(prompts), sampler.batch_size):
        part = slice(start, start + sampler.batch_size)
        embeds = base.encode(prompts[part])
        null = base.encode([sampler.negative_prompt]).expand_as(embeds)
        out.append(solve(base, embeds, null, list(seeds[part]), sampler).float().cpu())
        on_batch(min(start + sampler.batch_size, len(prompts)), len(prompts))
    return torch.cat(out)


def solve(
    base: Base,
    embeds: Tensor,
    null: Tensor,
    seeds: Sequence[int],
    sampler: SamplerConfig,
    clean: Tensor | None = None,
    time: float = 1.0,
) -> Tensor:
    """Clean latents (B, C, h, w) on the device, one a seed, under embeddings and null embeddings (B, T, D).

    With ``clean``, latents (B, C, h, w) on the device, these are noised to the first time of the sampler that
    is not beyond the share ``time`` of the schedule and denoised from there; without such a time they are
    returned as they are."""
    scheduler = make_scheduler(base.scheduler.config, sampler)
    scheduler.set_timesteps(sampler.steps, device=base.device)
    times = scheduler.timesteps
    start = initial_noise(seeds, base.latent_shape).to(base.device)
    if clean is None:
        x: Tensor = start * scheduler.init_noise_sigma
    else:
        begin = int((times > time * scheduler.config.num_train_timesteps).sum())
        if begin == len(times):
            return clean
        if hasattr(scheduler, "set_begin_index"):  # all but DDIM, which needs none
            scheduler.set_begin_index(begin)
        times = times[begin:]
        x = scheduler.add_noise(clean, start, times[:1].expand(len(clean)))
    guided = sampler.guidance_scale > 1
    both = torch.cat([null, embeds]) if guided else embeds
    # Ancestral solvers draw noise at each step; one generator a picture keeps it independent of the batch.
    extra: dict[str, Any] = {}
    if sampler.scheduler == "euler_ancestral":
        extra["generator"] = [torch.Generator().manual_seed(named_seed(s, "ancestral")) for s in seeds]
    for t in times:
        inputs = scheduler.scale_model_input(torch.cat([x, x]) if guided else x, t)
        noise = base.predict_noise(inputs, t.expand(len(inputs)), both)
        if guided:
            u, c = noise.chunk(2)
            noise = u + sampler.guidance_scale * (c - u)
        x = scheduler.step(noise, t, x, return_dict=False, **extra)[0]
    return x
