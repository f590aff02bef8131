"""Drift of the null prompt: how far the unconditional prediction moved (All but One's concern; nobody else constrains it)."""

from __future__ import annotations

import torch
from torch import Tensor

from fade.base import Base
from fade.mesh import Mesh


@torch.no_grad()
def null_drift(base: Base, mesh: Mesh, latents: Tensor, *, seed: int, negative_prompt: str = "", batch_size: int = 64) -> float:
    """mean ||u(x_t) - u0(x_t)||^2 per element, over clean latents (B, C, h, w), one uniform timestep and noise each."""
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
        with mesh.off():
            kept = base.predict_noise(x, at, embeds)
        total += float((moved - kept).square().flatten(1).mean(1).sum())
    return total / len(latents)
