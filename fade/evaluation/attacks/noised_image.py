"""Noised real images: a real picture of the target, noised to some time, is the start instead of pure noise
(visual context).

After "When Are Concepts Erased" (arXiv 2505.17013), which probes erased models with visual context; times and
solver are ours. The more noise, the more the model must know by itself: at early times the picture simply
stays, which the control and the base's condition show."""

from __future__ import annotations

import numpy as np
import torch

from fade.evaluation.attacks import Attack, AttackContext, AttackResult, register
from fade.evaluation.attacks.denoising import sample_from


def regenerate(subject: AttackContext) -> AttackResult:
    """``images`` pictures for each of ``times`` under the concept's prompt, with guidance; no search, hence
    below any budget."""
    config, clean = subject.config, subject.pictures
    # Picture after picture, each with a seed of its own.
    start = clean[torch.arange(config.images, device=clean.device) % len(clean)]
    prompt = subject.base.encode([subject.prompt])
    hits = [
        subject.hits(
            sample_from(subject.base, prompt, subject.seeds, subject.sampler, clean=start, time=time)
        )
        for time in config.times
    ]
    per_time = {str(time): 100.0 * float(hit.mean()) for time, hit in zip(config.times, hits, strict=True)}
    return AttackResult(np.concatenate(hits), {"per_time": per_time})


register(Attack("noised", "after arXiv 2505.17013 (visual context); times and solver are ours", regenerate))
