"""Purification (All but One, arXiv 2312.12807, Figure 1): DDIM inversion of a real picture, then regeneration
by an erased model.

The inversion walks the original model's deterministic trajectory backwards under the null prompt, at guidance
1; from the noise that it ends at, the erased model regenerates the picture. The control beside every result:
from the same noise the original must give the picture back, concept included, or else a vanished concept says
nothing about the erasure. Only the figure is known to us: the prompt, the guidance, how far the inversion
goes and its refinements are ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fade.config import PurifyConfig

if TYPE_CHECKING:
    from fade.models.stable_diffusion import Base


@torch.no_grad()
def invert(base: Base, latents: Tensor, embeds: Tensor, config: PurifyConfig) -> Tensor:
    """Noisy latents (B, C, h, w) from which DDIM comes back to clean ``latents`` (B, C, h, w) under
    ``embeds`` (B, T, D).

    A step x_t -> x_t' needs the noise predicted at x_t': it is first taken at x_t, then ``refinements - 1``
    times at the latest x_t' (a fixed-point iteration)."""
    scheduler = _scheduler(base, config, inverse=True)
    x = latents
    for t in scheduler.timesteps[: reached(config)]:
        after = x
        for _ in range(config.refinements):
            noise = base.predict_noise(after, t.expand(len(after)), embeds)
            after = scheduler.step(noise, t, x, return_dict=False)[0]
        x = after
    return x


@torch.no_grad()
def regenerate(
    base: Base, noisy: Tensor, embeds: Tensor, config: PurifyConfig, null: Tensor | None = None
) -> Tensor:
    """Clean latents (B, C, h, w) from those of ``invert``, by the UNet as it is now, under ``embeds`` (B, T,
    D); with ``null`` (B, T, D) at the guidance ``config.guidance``."""
    scheduler = _scheduler(base, config)
    x = noisy
    for t in scheduler.timesteps[config.steps - reached(config) :]:
        at = t.expand(len(x))
        noise = base.predict_noise(x, at, embeds)
        if null is not None and config.guidance > 1:
            plain = base.predict_noise(x, at, null)
            noise = plain + config.guidance * (noise - plain)
        x = scheduler.step(noise, t, x, return_dict=False)[0]
    return x


def reached(config: PurifyConfig) -> int:
    """How many of the trajectory's steps are inverted: at least one."""
    return max(1, round(config.strength * config.steps))


def _scheduler(base: Base, config: PurifyConfig, *, inverse: bool = False) -> Any:
    """diffusers' pair of DDIM schedulers, both on the same timesteps of the base's own schedule."""
    from diffusers import DDIMInverseScheduler, DDIMScheduler

    kind = DDIMInverseScheduler if inverse else DDIMScheduler
    how = {"timestep_spacing": "trailing", "set_alpha_to_one": False, "clip_sample": False}
    scheduler = kind.from_config(dict(base.scheduler.config), **how)
    scheduler.set_timesteps(config.steps, device=base.device)
    return scheduler
