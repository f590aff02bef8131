"""Drift of the null prompt: how far the unconditional prediction moved (All but One's concern; nobody else
constrains it).

One number over random timesteps, and a curve over fixed ones: near pure noise (large t) a drift changes what
is drawn, near the clean picture only how."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fade.adapters.lora import LoraAdapter
from fade.models import Base


@torch.no_grad()
def null_drift(
    base: Base,
    lora: LoraAdapter,
    latents: Tensor,
    *,
    seed: int,
    negative_prompt: str = "",
    batch_size: int = 64,
) -> float:
    """mean ||u(x_t) - u0(x_t)||^2 per element, over clean latents (B, C, h, w), one uniform timestep and
    noise each."""
    generator = torch.Generator().manual_seed(seed)
    t = torch.randint(0, base.scheduler.config.num_train_timesteps, (len(latents),), generator=generator)
    noise = torch.randn(latents.shape, generator=generator)
    null = base.encode([negative_prompt])
    total = 0.0
    for part in torch.arange(len(latents)).split(batch_size):
        at = t[part].to(base.device)
        x = base.add_noise(latents[part].to(base.device), noise[part].to(base.device), at)
        embeds = null.expand(len(part), -1, -1)
        moved = base.predict_noise(x, at, embeds)
        with lora.off():
            kept = base.predict_noise(x, at, embeds)
        total += float((moved - kept).square().flatten(1).mean(1).sum())
    return total / len(latents)


@torch.no_grad()
def drift_curve(
    base: Base,
    lora: LoraAdapter,
    latents: Tensor,
    *,
    seed: int,
    bins: int,
    negative_prompt: str = "",
    batch_size: int = 256,
) -> list[dict[str, float]]:
    """mean ||u(x_t) - u0(x_t)||^2 per element at the middles of ``bins`` equal parts of the schedule: [{t,
    drift}], t rising.

    Every clean latent (B, C, h, w) is seen at every timestep, with the same noise: the points differ by t
    alone."""
    steps, n = int(base.scheduler.config.num_train_timesteps), len(latents)
    at = [(2 * i + 1) * steps // (2 * bins) for i in range(bins)]
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed))
    t = torch.tensor(at).repeat_interleave(n).to(base.device)  # (bins * B,)
    x = base.add_noise(
        latents.repeat(bins, 1, 1, 1).to(base.device), noise.repeat(bins, 1, 1, 1).to(base.device), t
    )
    null = base.encode([negative_prompt])
    parts = torch.arange(len(x)).split(batch_size)
    moved = _predict(base, x, t, null, parts)
    with lora.off():
        kept = _predict(base, x, t, null, parts)
    each = (moved - kept).square().flatten(1).mean(1).view(bins, n).mean(1)
    return [{"t": float(step), "drift": float(value)} for step, value in zip(at, each, strict=True)]


def _predict(base: Base, x: Tensor, t: Tensor, null: Tensor, parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([base.predict_noise(x[part], t[part], null.expand(len(part), -1, -1)) for part in parts])
