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
    from fade.models.base import DiffusionModel
    from fade.models.conditioning import Conditioning


@torch.no_grad()
def invert(base: DiffusionModel, latents: Tensor, cond: Conditioning, config: PurifyConfig) -> Tensor:
    """Noisy latents (B, C, h, w) from which DDIM comes back to clean ``latents`` (B, C, h, w) under B
    prompts.

    A step x_t -> x_t' needs the output predicted at x_t': it is first taken at x_t, then ``refinements - 1``
    times at the latest x_t' (a fixed-point iteration)."""
    scheduler = _scheduler(base, config, inverse=True)
    x = latents
    for t in scheduler.timesteps[: reached(config)]:
        after = x
        for _ in range(config.refinements):
            output = base.predict(after, t.expand(len(after)), cond)
            after = scheduler.step(output, t, x, return_dict=False)[0]
        x = after
    return x


@torch.no_grad()
def regenerate(
    base: DiffusionModel,
    noisy: Tensor,
    cond: Conditioning,
    config: PurifyConfig,
    null: Conditioning | None = None,
) -> Tensor:
    """Clean latents (B, C, h, w) from those of ``invert``, by the model as it is now, under B prompts;
    with ``null``, B null prompts, at the guidance ``config.guidance``."""
    scheduler = _scheduler(base, config)
    x = noisy
    for t in scheduler.timesteps[config.steps - reached(config) :]:
        at = t.expand(len(x))
        output = base.predict(x, at, cond)
        if null is not None and config.guidance > 1:
            plain = base.predict(x, at, null)
            output = plain + config.guidance * (output - plain)
        x = scheduler.step(output, t, x, return_dict=False)[0]
    return x


def reached(config: PurifyConfig) -> int:
    """How many of the trajectory's steps are inverted: at least one."""
    return max(1, round(config.strength * config.steps))


def _scheduler(base: DiffusionModel, config: PurifyConfig, *, inverse: bool = False) -> Any:
    """diffusers' pair of DDIM schedulers, both on the same timesteps of the base's own schedule."""
    from diffusers import DDIMInverseScheduler, DDIMScheduler

    kind = DDIMInverseScheduler if inverse else DDIMScheduler
    how = {"timestep_spacing": "trailing", "set_alpha_to_one": False, "clip_sample": False}
    scheduler = kind.from_config(dict(base.scheduler.config), **how)
    scheduler.set_timesteps(config.steps, device=base.device)
    return scheduler
