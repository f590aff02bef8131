"""Sampling in large batches across prompts, by seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fade.config import SamplerConfig
from fade.utils.seeds import named_seed

if TYPE_CHECKING:
    from fade.models.base import DiffusionModel
    from fade.models.conditioning import Conditioning


def initial_noise(seeds: Sequence[int], shape: tuple[int, ...]) -> Tensor:
    """Standard normal (B, *shape) on the CPU; equal seeds give equal noise on every device and in every
    batch."""
    noise = {s: torch.randn(shape, generator=torch.Generator().manual_seed(int(s))) for s in set(seeds)}
    return torch.stack([noise[s] for s in seeds])


def pictures_at_once(base: DiffusionModel, sampler: SamplerConfig) -> int:
    """What sampler.batch_size asks for, or the fewer that fit the device."""
    return min(sampler.batch_size, base.batches.sample)


@torch.inference_mode()
def sample(
    base: DiffusionModel,
    prompts: Sequence[str],
    seeds: Sequence[int],
    sampler: SamplerConfig,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> Tensor:
    """Clean latents (B, C, h, w), float32 on the CPU, one a prompt; the seed alone names a picture's initial
    noise."""
    out, n = [], pictures_at_once(base, sampler)
    for start in range(0, len(prompts), n):
        part = slice(start, start + n)
        cond = base.encode(prompts[part])
        null = base.encode([sampler.negative_prompt]).expand(len(cond))
        out.append(solve(base, cond, null, list(seeds[part]), sampler).float().cpu())
        on_batch(min(start + n, len(prompts)), len(prompts))
    return torch.cat(out)


def solve(
    base: DiffusionModel,
    cond: Conditioning,
    null: Conditioning,
    seeds: Sequence[int],
    sampler: SamplerConfig,
    clean: Tensor | None = None,
    time: float = 1.0,
    shape: tuple[int, ...] | None = None,
) -> Tensor:
    """Clean latents (B, C, h, w) on the device, one a seed, under B prompts and B times the null prompt.

    With ``clean``, latents (B, C, h, w) on the device, these are noised to the first time of the sampler that
    is not beyond the share ``time`` of the schedule and denoised from there; without such a time they are
    returned as they are. shape: of one latent, where it is not the model's own."""
    solver = base.solver(sampler)
    times = solver.timesteps
    start = initial_noise(seeds, shape or base.latent_shape).to(base.device)
    if clean is None:
        x: Tensor = start * getattr(solver, "init_noise_sigma", 1.0)
    else:
        begin = int((times > time * solver.config.num_train_timesteps).sum())
        if begin == len(times):
            return clean
        if hasattr(solver, "set_begin_index"):  # all but DDIM, which needs none
            solver.set_begin_index(begin)
        times = times[begin:]
        x = base.noised(solver, clean, start, times[:1].expand(len(clean)))
    # Ancestral solvers draw noise at each step; one generator a picture keeps it independent of the batch.
    extra: dict[str, Any] = {}
    if sampler.scheduler == "euler_ancestral":
        extra["generator"] = [torch.Generator().manual_seed(named_seed(s, "ancestral")) for s in seeds]
    low, high = sampler.guidance_interval
    for t in times:
        scaled = solver.scale_model_input(x, t) if hasattr(solver, "scale_model_input") else x
        guided = low <= float(t) / solver.config.num_train_timesteps <= high
        scale = sampler.guidance_scale if guided else 1.0
        output = base.predict_guided(scaled, t.expand(len(x)), cond, null, scale)
        x = solver.step(output, t, x, return_dict=False, **extra)[0]
    return x
