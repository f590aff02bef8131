"""Latents of a step whose prompts share noise and time (`fade.erasers.base.SharedLatents`): stored pictures
with one noise, or partial trajectories of a deterministic sampler from one noise."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fade.config import SamplerConfig

if TYPE_CHECKING:
    from fade.erasers.base import SharedLatents
    from fade.models.base import DiffusionModel
    from fade.models.conditioning import Conditioning


def noised_pictures(
    base: DiffusionModel,
    shared: SharedLatents,
    target: Tensor,
    neighbours: Tensor,
    n: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """x (P n, C, h, w) and t (P n,) on the CPU of P prompts: n pictures each of the target's stored latents
    (m, C, h, w), and for the neighbours of theirs (K, m, C, h, w); noise i is that of picture i of each."""
    own = 1 + len(shared.templates)
    parts = [target[torch.randint(len(target), (own * n,), generator=generator)]]
    if shared.neighbours:
        shown = torch.randint(neighbours.shape[1], (len(neighbours), n), generator=generator)
        parts += [pictures[places] for pictures, places in zip(neighbours, shown, strict=True)]
    clean = torch.cat(parts)
    noise = torch.randn((n, *clean.shape[1:]), generator=generator)
    t = base.sample_times(1, generator).expand(len(clean))
    return base.add_noise(clean, noise.repeat(len(clean) // n, 1, 1, 1), t), t


@torch.no_grad()
def partial_trajectories(
    base: DiffusionModel,
    shared: SharedLatents,
    prompts: Conditioning,
    null: Conditioning,
    n: int,
    generator: torch.Generator,
    original: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> tuple[Tensor, Tensor]:
    """x (P n, C, h, w) and t (P n,) on the device: n trajectories under each of P prompts, stopped together;
    noise i is where trajectory i of each begins.

    original: within it the base is without its adapter."""
    stop = int(torch.randint(1, shared.steps, (1,), generator=generator))
    start = torch.randn((n, *base.latent_shape), generator=generator).to(base.device)
    x, cond = start.repeat(len(prompts), 1, 1, 1), prompts.repeat_interleave(n)
    sampler = sampler_of(base, shared.steps)
    with original() if shared.by == "original" else nullcontext():
        parts = [
            _walk(base, sampler, part, cond[slice(i, i + len(part))], null, shared.guidance, stop)
            for i, part in _parts(x, base.batches.sample)
        ]
    return torch.cat([part for part, _ in parts]), torch.cat([t for _, t in parts])


def sampler_of(base: DiffusionModel, steps: int) -> SamplerConfig:
    """DDIM with the spacing of the base's own schedule, or the only solver of a flow."""
    scheduler = "ddim" if "ddim" in base.SOLVERS else base.SOLVERS[0]
    spacing = base.scheduler.config.get("timestep_spacing", "trailing")  # a flow has none, and reads none
    fields = {"scheduler": scheduler, "steps": steps, "spacing": spacing}
    return SamplerConfig.model_validate({**fields, "guidance_scale": 1.0})  # each step is given its own


def _parts(x: Tensor, n: int) -> list[tuple[int, Tensor]]:
    """As many latents as fit the device at once, each with the place of its first."""
    return list(zip(range(0, len(x), n), x.split(n), strict=True))


def _walk(
    base: DiffusionModel,
    sampler: SamplerConfig,
    x: Tensor,
    cond: Conditioning,
    null: Conditioning,
    guidance: float,
    stop: int,
) -> tuple[Tensor, Tensor]:
    """Latents (B, C, h, w) after ``stop`` steps under B prompts, and the time there (B,)."""
    solver = base.solver(sampler)  # anew: some count their steps
    for t in solver.timesteps[:stop]:
        output = base.predict_guided(x, t.expand(len(x)), cond, null.expand(len(x)), guidance)
        x = solver.step(output, t, x, return_dict=False)[0]
    return x, solver.timesteps[stop].expand(len(x))
