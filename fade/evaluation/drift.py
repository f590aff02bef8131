"""Drift of the null prompt: how far the unconditional prediction moved (All but One's concern; nobody else
constrains it).

One number over random timesteps, and a curve over fixed ones: near pure noise (large t) a drift changes what
is drawn, near the clean picture only how."""

from __future__ import annotations

import torch
from torch import Tensor

from fade.adapters.change import Change
from fade.models.base import DiffusionModel


@torch.no_grad()
def null_drift(
    base: DiffusionModel,
    lora: Change,
    latents: Tensor,
    *,
    seed: int,
    negative_prompt: str = "",
    batch_size: int = 64,
) -> float:
    """mean ||u(x_t) - u0(x_t)||^2 per element, over clean latents (B, C, h, w), one uniform timestep and
    noise each."""
    generator = torch.Generator().manual_seed(seed)
    t = base.sample_times(len(latents), generator)
    noise = torch.randn(latents.shape, generator=generator)
    each = _drift(base, lora, latents, noise, t, negative_prompt, batch_size)
    return sum(float(part.sum()) for part in each.split(batch_size)) / len(latents)


@torch.no_grad()
def drift_curve(
    base: DiffusionModel,
    lora: Change,
    latents: Tensor,
    *,
    seed: int,
    bins: int,
    negative_prompt: str = "",
    batch_size: int = 256,
) -> list[dict[str, float]]:
    """mean ||u(x_t) - u0(x_t)||^2 per element at the middles of ``bins`` equal parts of the schedule: [{t,
    drift}], t rising.

    Every clean latent (B, C, h, w) is taken at every timestep, with the same noise: the points differ by t
    alone."""
    n, shares = len(latents), [(2 * i + 1) / (2 * bins) for i in range(bins)]
    at = base.times_at(torch.tensor(shares, dtype=torch.float64))
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed))
    x, noise = latents.repeat(bins, 1, 1, 1), noise.repeat(bins, 1, 1, 1)
    t = at.repeat_interleave(n)  # (bins * B,)
    each = _drift(base, lora, x, noise, t, negative_prompt, batch_size).view(bins, n).mean(1)
    return [{"t": float(step), "drift": float(value)} for step, value in zip(at.tolist(), each, strict=True)]


def _drift(
    base: DiffusionModel,
    lora: Change,
    latents: Tensor,
    noise: Tensor,
    t: Tensor,
    negative_prompt: str,
    batch_size: int,
) -> Tensor:
    """||u(x_t) - u0(x_t)||^2 per element of each latent, (B,), on the CPU.

    No more than one call's latents are on the device: all of them, eight times over, would be a gigabyte
    where a latent has 16 channels of 128 x 128."""
    parts = torch.arange(len(latents)).split(min(batch_size, base.batches.predict))
    null = base.encode([negative_prompt])

    def predict() -> Tensor:
        out = []
        for i in parts:
            clean, eps, at = (one[i].to(base.device) for one in (latents, noise, t))
            x = base.add_noise(clean, eps, at)
            out.append(base.predict(x, at, null.expand(len(i))).cpu())
        return torch.cat(out)

    moved = predict()
    with lora.off():
        return (moved - predict()).square().flatten(1).mean(1)
