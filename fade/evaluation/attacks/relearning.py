"""Relearning (attack ``revival``): a short fine-tune on pictures without the target, then its own prompt.

Fine-tuning on unrelated data is known to revive erased concepts (arXiv 2604.21041). Ours: all attention
weights are trained, by the plain diffusion loss, and put back to the byte afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from fade.data.vocabulary import prompts
from fade.evaluation.attacks import Attack, AttackContext, AttackResult, register
from fade.evaluation.attacks.denoising import add_noise, fit, sample_from
from fade.utils.seeds import named_seed


def relearn(subject: AttackContext) -> AttackResult:
    """budget // (3 batch) steps of Adam, then ``images`` pictures by the concept's own prompt."""
    base, config, unrelated = subject.base, subject.config, subject.material.unrelated
    own = base.encode([subject.prompt])
    clean = torch.cat(list(unrelated.values())).to(base.device)
    counts = torch.tensor([len(part) for part in unrelated.values()], device=base.device)
    owner = torch.arange(len(counts), device=base.device).repeat_interleave(counts)
    shown = base.encode(prompts(subject.sampler.prompt, list(unrelated)))  # one row a concept
    generator = torch.Generator().manual_seed(named_seed(config.seed, "revival"))

    with temporarily_trainable(attention(base.denoiser)) as weights:
        losses = fit(
            subject,
            weights,
            lambda: add_noise(base, clean, config.batch, generator),
            lambda noisy: shown[owner[noisy.which]],
            config.budget // (3 * config.batch),
            config.revival_lr,
        )
        latents = sample_from(base, own, subject.seeds, subject.sampler)
    tenth = max(1, len(losses) // 10)
    first, last = (float(torch.stack(part).mean()) for part in (losses[:tenth], losses[-tenth:]))
    facts = {"loss_first": first, "loss_last": last, "trained_on": sorted(unrelated)}
    return AttackResult(subject.hits(latents), {"steps": len(losses), **facts})


def attention(unet: nn.Module) -> list[nn.Parameter]:
    """The attention layers' own weights, self and cross, an adapter's aside."""
    return [weight for name, weight in unet.named_parameters() if ".attn" in name and "lora_" not in name]


@contextmanager
def temporarily_trainable(weights: list[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Trainable inside; outside as they were, to the byte, whatever happened."""
    # the copies wait on the CPU: a GPU's room is planned for the step and for the pictures after it
    before = [(weight.detach().to("cpu", copy=True), weight.requires_grad) for weight in weights]
    try:
        for weight in weights:
            weight.requires_grad_(True)
        yield weights
    finally:
        for weight, (value, trainable) in zip(weights, before, strict=True):
            weight.grad = None
            weight.requires_grad_(trainable)
            with torch.no_grad():
                weight.copy_(value)


_SOURCE = "after arXiv 2604.21041; which weights, pictures and budget are ours"
register(
    Attack(
        "revival",
        _SOURCE,
        relearn,
        held_out=True,
        trained=lambda base, prompt: attention(base.denoiser),
    )
)
