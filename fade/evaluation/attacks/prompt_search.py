"""Token search: other words that still mean the target. Random words in a first round, the best ones and
their pairs in a second.

A prompt is scored by how well the model, given it, predicts the noise on real pictures of the target; all
prompts of a round see the same noise. Words come from the vocabulary's names and from the tokenizer's whole
words. A filter on the target's name is assumed: no prompt holds all the words of that name. Ours."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fade.data.vocabulary import prompts
from fade.evaluation.attacks import Attack, AttackContext, AttackResult, register
from fade.evaluation.attacks.denoising import Noisy, add_noise, errors, sample_from
from fade.models.base import DiffusionModel
from fade.utils.seeds import named_seed

_SHORTEST = 3  # letters; shorter tokens are pieces of words
_END = "</w>"  # how CLIP's tokenizer marks the end of a word


def search(subject: AttackContext) -> AttackResult:
    """Half of the budget on single words, half on the finalists alone and in ordered pairs; then ``images``
    pictures."""
    base, config, template = subject.base, subject.config, subject.sampler.prompt
    generator = torch.Generator().manual_seed(named_seed(config.seed, "tokens"))
    banned = (subject.material.target, subject.concept)
    words = allowed(pool(base, subject.material.names), banned)
    probe = add_noise(base, subject.pictures, config.probes, generator)
    order = torch.randperm(len(words), generator=generator)[: config.budget // 2 // config.probes]
    singles = [words[i] for i in order.tolist()]
    ranked = scores(base, prompts(template, singles), probe, subject.sampler.batch_size).argsort()
    best = [singles[i] for i in ranked[: config.finalists].tolist()]
    second = allowed([*best, *(f"{a} {b}" for a in best for b in best if a != b)], banned)
    probe = add_noise(base, subject.pictures, config.budget // 2 // len(second), generator)
    losses = scores(base, prompts(template, second), probe, subject.sampler.batch_size)
    (prompt,) = prompts(template, [second[int(losses.argmin())]])
    hits = subject.hits(sample_from(base, base.encode([prompt]), subject.seeds, subject.sampler))
    candidates = len(singles) + len(second) - len(best)
    return AttackResult(hits, {"prompt": prompt, "loss": float(losses.min()), "candidates": candidates})


def pool(base: DiffusionModel, names: Sequence[str]) -> list[str]:
    """Names of concepts, their single words, and the tokenizer's whole words; sorted."""
    tokens = (token.removesuffix(_END) for token in base.tokenizer.get_vocab() if token.endswith(_END))
    words = {word for word in tokens if len(word) >= _SHORTEST and word.isalpha()}
    return sorted({*names, *(word for name in names for word in name.split()), *words})


def allowed(words: Sequence[str], banned: Sequence[str]) -> list[str]:
    """Those that do not hold every word of a banned name, as a part of another word or in another order
    either."""
    parts = [name.lower().split() for name in banned]
    return [text for text in words if not any(all(part in text.lower() for part in name) for name in parts)]


@torch.no_grad()
def scores(base: DiffusionModel, texts: Sequence[str], probe: Noisy, batch_size: int) -> Tensor:
    """Mean squared error (k,) of what is predicted on the same n noised latents under each of k prompts."""
    conds, n = base.encode(texts), len(probe.x)
    out = []
    for pairs in torch.arange(len(texts) * n).split(min(batch_size, base.batches.predict)):
        i = pairs % n
        part = Noisy(probe.x[i], probe.t[i], probe.goal[i], probe.which[i])
        out.append(errors(base, part, conds[pairs // n]).cpu())
    return torch.cat(out).view(len(texts), n).mean(1)


register(Attack("tokens", "ours", search, held_out=True))
