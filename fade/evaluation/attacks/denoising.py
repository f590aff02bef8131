"""What attacks do with a model: sample from an embedding or from a noised picture, predict noise on real
latents, minimise its error; and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fade.config import SamplerConfig
from fade.models.sampling import solve
from fade.models.stable_diffusion import Base


class CallBudget:
    """Counts a model's UNet calls while it is open: pictures times passes; a pass that keeps its graph counts
    three (its backward two)."""

    def __init__(self, base: Base) -> None:
        self.calls = 0
        self._unet = base.unet

    def __enter__(self) -> CallBudget:
        self._hook = self._unet.register_forward_hook(self._count)
        return self

    def __exit__(self, *error: object) -> None:
        self._hook.remove()

    def _count(self, module: Any, inputs: tuple[Any, ...], output: Any) -> None:
        self.calls += len(output.sample) * (3 if output.sample.requires_grad else 1)


@dataclass(frozen=True)
class Noisy:
    """Noised latents and what was done to them."""

    x: Tensor
    """(n, C, h, w)"""
    t: Tensor
    """(n,)"""
    noise: Tensor
    """(n, C, h, w)"""
    which: Tensor
    """(n,) the clean latent of each."""


def add_noise(base: Base, clean: Tensor, n: int, generator: torch.Generator) -> Noisy:
    """``n`` random ones of the clean latents (m, C, h, w), noised to times spread evenly over the schedule
    (one in each n-th)."""
    steps = int(base.scheduler.config.num_train_timesteps)
    which = torch.randint(len(clean), (n,), generator=generator).to(base.device)
    times = (torch.arange(n) + torch.rand(n, generator=generator)) / n * steps
    t = times.long().clamp_max(steps - 1).to(base.device)
    noise = torch.randn((n, *clean.shape[1:]), generator=generator).to(base.device)
    return Noisy(base.add_noise(clean[which], noise, t), t, noise, which)


def errors(base: Base, noisy: Noisy, embeds: Tensor) -> Tensor:
    """Mean squared error (n,) of the predicted noise under embeddings (n, T, D) or (1, T, D)."""
    predicted = base.predict_noise(noisy.x, noisy.t, embeds.expand(len(noisy.x), -1, -1))
    return (predicted - noisy.noise).square().flatten(1).mean(1)


def fit(weights: Sequence[Tensor], loss_of: Callable[[], Tensor], steps: int, rate: float) -> list[Tensor]:
    """``steps`` of Adam on the weights, at a rate that falls linearly from ``rate`` to 0; the losses."""
    adam = torch.optim.Adam(weights, lr=rate)
    decay = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: 1 - step / steps)
    losses = []
    for _ in range(steps):
        loss = loss_of()
        # Not backward(): an active adapter's weights take gradients, too.
        for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
            weight.grad = gradient
        adam.step()
        decay.step()
        losses.append(loss.detach())
    return losses


@torch.no_grad()
def sample_from(
    base: Base,
    embeds: Tensor,
    seeds: Sequence[int],
    sampler: SamplerConfig,
    *,
    clean: Tensor | None = None,
    time: float = 1.0,
) -> Tensor:
    """Clean latents (n, C, h, w), float32 on the CPU, one a seed, under embeddings (n, T, D) or (1, T, D).

    Without ``clean`` what ``fade.models.sampling.sample`` does with prompts, to the byte; with it, latents
    (n, C, h, w), they start from these, noised to ``time`` (see ``solve``)."""
    null = base.encode([sampler.negative_prompt])
    embeds = embeds.expand(len(seeds), -1, -1)
    out = []
    for start in range(0, len(seeds), sampler.batch_size):
        part = slice(start, start + sampler.batch_size)
        start_at = None if clean is None else clean[part].to(base.device)
        nulls = null.expand_as(embeds[part])
        out.append(solve(base, embeds[part], nulls, seeds[part], sampler, start_at, time).float().cpu())
    return torch.cat(out)
