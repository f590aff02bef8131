"""What attacks do with a model: sample from an embedding or from a noised picture, predict noise on real
latents, minimise its error; and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fade.config import SamplerConfig
from fade.models.base import DiffusionModel
from fade.models.conditioning import Conditioning
from fade.models.sampling import pictures_at_once, solve

if TYPE_CHECKING:
    from fade.evaluation.attacks import AttackContext


class CallBudget:
    """Counts a model's UNet calls while it is open: pictures times passes; a pass that keeps its graph counts
    three (its backward two)."""

    def __init__(self, base: DiffusionModel) -> None:
        self.calls = 0
        self._denoiser = base.denoiser

    def __enter__(self) -> CallBudget:
        self._hook = self._denoiser.register_forward_hook(self._count)
        return self

    def __exit__(self, *error: object) -> None:
        self._hook.remove()

    def _count(self, module: Any, inputs: tuple[Any, ...], output: Any) -> None:
        out = output[0] if isinstance(output, tuple) else output.sample
        self.calls += len(out) * (3 if out.requires_grad else 1)


@dataclass(frozen=True)
class Noisy:
    """Noised latents and what was done to them."""

    x: Tensor
    """(n, C, h, w)"""
    t: Tensor
    """(n,)"""
    goal: Tensor
    """(n, C, h, w) what the network was trained to put out: noise, v or a velocity."""
    which: Tensor
    """(n,) the clean latent of each."""

    def split(self, n: int) -> list[Noisy]:
        """In parts of ``n`` latents; the last may have fewer."""
        columns = (one.split(n) for one in (self.x, self.t, self.goal, self.which))
        return [Noisy(*part) for part in zip(*columns, strict=True)]


def add_noise(base: DiffusionModel, clean: Tensor, n: int, generator: torch.Generator) -> Noisy:
    """``n`` random ones of the clean latents (m, C, h, w), noised to times spread evenly over the schedule
    (one in each n-th)."""
    which = torch.randint(len(clean), (n,), generator=generator).to(base.device)
    t = base.times_at((torch.arange(n) + torch.rand(n, generator=generator)) / n).to(base.device)
    noise = torch.randn((n, *clean.shape[1:]), generator=generator).to(base.device)
    return Noisy(base.add_noise(clean[which], noise, t), t, base.target(clean[which], noise, t), which)


def errors(base: DiffusionModel, noisy: Noisy, cond: Conditioning) -> Tensor:
    """Mean squared error (n,) of the network's own output under n prompts, or one."""
    each = cond if len(cond) == len(noisy.x) else cond.expand(len(noisy.x))
    return (base.predict(noisy.x, noisy.t, each) - noisy.goal).square().flatten(1).mean(1)


def fit(
    subject: AttackContext,
    weights: Sequence[Tensor],
    noisy_of: Callable[[], Noisy],
    cond_of: Callable[[Noisy], Conditioning],
    steps: int,
    rate: float,
) -> list[Tensor]:
    """``steps`` of Adam on the weights, at a rate that falls linearly from ``rate`` to 0; the losses.

    A step's loss is the mean error of ``noisy_of()`` under the prompts of ``cond_of``. Where they do not
    go through the denoiser at once, the gradients of the parts, each at its share, add up to the whole's."""
    base = subject.base
    # foreach would hold one more tensor of every weight's size on a GPU
    adam = torch.optim.Adam(weights, lr=rate, foreach=False)
    decay = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: 1 - step / steps)
    losses = []
    with ExitStack() as stack:
        stack.callback(adam.zero_grad)  # the pictures after it need the room
        if subject.checkpointing:
            base.denoiser.enable_gradient_checkpointing()
            stack.callback(base.denoiser.disable_gradient_checkpointing)
        for _ in range(steps):
            adam.zero_grad()
            noisy = noisy_of()
            total = torch.zeros((), device=noisy.x.device)
            for part in noisy.split(subject.at_once or len(noisy.x)):
                loss = errors(base, part, cond_of(part)).mean() * (len(part.x) / len(noisy.x))
                # inputs: an active adapter's weights would take gradients, too
                torch.autograd.backward(loss, inputs=list(weights))
                total += loss.detach()
            adam.step()
            decay.step()
            losses.append(total)
    return losses


@torch.no_grad()
def sample_from(
    base: DiffusionModel,
    cond: Conditioning,
    seeds: Sequence[int],
    sampler: SamplerConfig,
    *,
    clean: Tensor | None = None,
    time: float = 1.0,
) -> Tensor:
    """Clean latents (n, C, h, w), float32 on the CPU, one a seed, under n prompts, or one.

    Without ``clean`` what ``fade.models.sampling.sample`` does with prompts, to the byte; with it, latents
    (n, C, h, w), they start from these, noised to ``time`` (see ``solve``)."""
    null = base.encode([sampler.negative_prompt])
    cond = cond if len(cond) == len(seeds) else cond.expand(len(seeds))
    out, n = [], pictures_at_once(base, sampler)
    for start in range(0, len(seeds), n):
        part = slice(start, start + n)
        start_at = None if clean is None else clean[part].to(base.device)
        nulls = null.expand(len(seeds[part]))
        out.append(solve(base, cond[part], nulls, seeds[part], sampler, start_at, time).float().cpu())
    return torch.cat(out)
