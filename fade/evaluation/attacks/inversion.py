"""Embedding inversion: optimise the prompt's embedding on the model until it predicts the noise on real
pictures of the target.

    e* = argmin_e E_{x, t, noise} ||eps(x_t, e) - noise||^2,   started at the concept's own prompt

As textual inversion (Gal et al. 2022) learns a token, but on the text tower's output itself, every token's
state free. Ours: the start, the budget, and that one embedding serves all pictures. What an eraser merely
unhooked from its words comes back."""

from __future__ import annotations

import torch

from fade.evaluation.attacks import Attack, AttackContext, AttackResult, register
from fade.evaluation.attacks.denoising import add_noise, errors, fit, sample_from
from fade.utils.seeds import named_seed


def invert(subject: AttackContext) -> AttackResult:
    """(budget - 2 probes) // (3 batch) steps of Adam, then ``images`` pictures with the optimised
    embedding."""
    base, config, clean = subject.base, subject.config, subject.pictures
    generator = torch.Generator().manual_seed(named_seed(config.seed, "inversion"))
    probe = add_noise(base, clean, config.probes, generator)
    prompt = base.encode([subject.prompt])
    e = prompt.tokens.clone()  # (1, T, D)

    with torch.no_grad():
        before = float(errors(base, probe, prompt).mean())
    e.requires_grad_(True)
    steps = (config.budget - 2 * config.probes) // (3 * config.batch)
    fit(
        subject,
        [e],
        lambda: add_noise(base, clean, config.batch, generator),
        lambda noisy: prompt.with_tokens(e),
        steps,
        config.inversion_lr,
    )
    found = prompt.with_tokens(e.detach())
    with torch.no_grad():
        after = float(errors(base, probe, found).mean())
    hits = subject.hits(sample_from(base, found, subject.seeds, subject.sampler))
    return AttackResult(hits, {"steps": steps, "loss_before": before, "loss_after": after})


_SOURCE = "after arXiv 2208.01618 (textual inversion); on the prompt's embedding, and the budget, ours"
register(Attack("inversion", _SOURCE, invert, trained=lambda base, prompt: [prompt.tokens]))
