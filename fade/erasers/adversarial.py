"""Erasure against prompts that bring the target back: what an inner search finds is erased with the name.
Ours, from known parts.

An adapter that moves the target's prompt alone leaves the picture behind it where it was: another embedding
still draws it (arXiv 2505.17013 separates the two). So each step first searches an embedding e* under which
the adapted model predicts what the original does for the target,

    e* = argmin_e ||eps(x,e) - eps0(x,e_0)||^2     by ``search_steps`` steps of the gradient's sign,

started in half of the steps at the target's own prompt e_0, else at a neighbour's or at random words, each
step ``search_rate`` of the start's root mean square a number. Then it erases both, by ESD's negative
guidance, and keeps what must stay under its own prompts, FADE's adjacency term first:

    g      = eps0(x,"") - eta (eps0(x,e_0) - eps0(x,""))
    L_er   = ||eps(x,e_0) - g||^2
    L_adv  = ||eps(x,e*) - g||^2
    L_adj  = mean_i ||eps(x_i,a_i) - eps0(x_i,a_i)||^2
    L_null = ||eps(x,"") - eps0(x,"")||^2
    L_word = mean_w ||eps(x_i,w) - eps0(x_i,w)||^2      of random words w
    L      = lam_er (L_er + L_adv) + lam_adj (L_adj + L_null + L_word)

x are noised pictures of the target, those that the original draws and the real ones of the data set. The
whole mesh is trained: a change of keys and values alone is undone by an embedding that answers it.

Receler trains ESD's target against adversarial soft tokens, on the cross-attention, and keeps by a mask; that
the search is against the whole embedding, from many starts, and what is kept, is ours. The attacks that the
evaluation holds out (`fade.evaluation.attacks`) are used by no training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from fade.config.section import Weight
from fade.erasers import esd, nullspace
from fade.erasers.base import Eraser, ErasureBatch, Extras, Predictor, Preparation, register
from fade.models.capabilities import NULL_PROMPT

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from fade.models.conditioning import Conditioning

FROM_TARGET = 0.5
"""Share of the steps whose search starts at the target's own prompt."""


class Config(esd.Config):
    """ESD's knobs, and those of the search and of what is kept."""

    adjacency_weight: Weight = 50.0
    """lam_adj."""
    words: Annotated[int, Field(ge=0)] = 400
    """How many words of the tokenizer's vocabulary, and as many pairs of them, are kept."""
    search_steps: Annotated[int, Field(ge=0)] = 5
    """Of the search in each step; 0: e* is where it would start."""
    search_rate: Weight = 0.1
    """How far a step of the search moves each number, in shares of the start's root mean square."""


def prepare(target: Preparation, config: Config) -> Extras:
    """``words``: n_t prompts of random words, sampled anew in each step. ``start``: the prompt (one) from
    which the step's search starts."""
    import torch

    sample = nullspace.prepare(target, nullspace.Config(words=config.words))
    language = sample(torch.Generator())["language"]
    language = language if len(language) else target.null
    others = target.neighbours.join(language)

    def extras(generator: torch.Generator) -> dict[str, Conditioning]:
        words = torch.randint(len(language), (target.n_target,), generator=generator)
        own = torch.rand(1, generator=generator).item() < FROM_TARGET
        other = torch.randint(len(others), (1,), generator=generator)
        device = language.tokens.device
        start = target.conditioning if own else others[other.to(device)]
        return {"words": language[words.to(device)], "start": start}

    return extras


def searched(eps: Predictor, batch: ErasureBatch, goal: Tensor, config: Config) -> Conditioning:
    """e*: token states (1, T, D) in the place of the target's, under which the adapted model's predictions
    (n_t, C, h, w) come nearest to ``goal``; the target's pooled vector stays. ``search_steps`` passes of n_t
    latents, each with its gradient."""
    import torch

    tokens = batch.extra["start"].tokens.detach()
    stride = config.search_rate * tokens.square().mean().sqrt()
    for _ in range(config.search_steps):
        tokens.requires_grad_(True)
        prompts = batch.target.with_tokens(tokens).expand(len(batch.x))
        error = ((eps.probe(batch.x, batch.t, prompts) - goal) ** 2).sum()
        (gradient,) = torch.autograd.grad(error, [tokens])
        tokens = (tokens - stride * gradient.sign()).detach()
    return batch.target.with_tokens(tokens)


def adversarial(eps: Predictor, batch: ErasureBatch, config: Config) -> tuple[Tensor, dict[str, Tensor]]:
    """The search, one teacher call (2 n_t + 2 n_a latents) and one student call (3 n_t + 2 n_a)."""
    import torch

    n_t, n_a = len(batch.x), len(batch.x_adj)
    e, null = batch.target.expand(n_t), batch.null.expand(n_t)
    words = batch.extra["words"]
    turns = torch.arange(n_a, device=batch.which.device) % len(words)
    beside = batch.neighbours[batch.which].join(words[turns])
    x_beside, t_beside = (torch.cat([one, one]) for one in (batch.x_adj, batch.t_adj))

    def latents(times: int) -> tuple[Tensor, Tensor]:
        """x the given number of times, then the neighbours' latents twice."""
        return torch.cat([*[batch.x] * times, x_beside]), torch.cat([*[batch.t] * times, t_beside])

    old, old_null, *old_beside = eps.teacher(*latents(2), e.join(null, beside)).split([n_t, n_t, n_a, n_a])
    goal = old_null - config.eta * (old - old_null)
    found = searched(eps, batch, old, config).expand(n_t)
    own, attacked, new_null, *new_beside = eps.student(*latents(3), e.join(found, null, beside)).split(
        [n_t, n_t, n_t, n_a, n_a]
    )
    pairs = {
        "erase": (own, goal),
        "attacked": (attacked, goal),
        "adjacency": (new_beside[0], old_beside[0]),
        "null": (new_null, old_null),
        "words": (new_beside[1], old_beside[1]),
    }
    terms = {name: ((new - target) ** 2).mean() for name, (new, target) in pairs.items()}
    erase = terms["erase"] + terms["attacked"]
    kept = terms["adjacency"] + terms["null"] + terms["words"]
    loss = config.erase_weight * erase + config.adjacency_weight * kept
    return loss, {name: term.detach() for name, term in terms.items()}


register(
    Eraser(
        "adversarial",
        "embedding",
        "ours, of ESD's negative guidance (2303.07345), FADE's adjacency term (2503.19783) and an inner "
        "search for embeddings (cf. Receler's adversarial soft tokens)",
        Config,
        adversarial,
        prepare=prepare,
        requires=(NULL_PROMPT,),
        requires_neighbours=True,
        requires_heldout=True,
        real_pictures=True,
        settings=(
            "mesh.rank=16",
            "mesh.alpha=16",
            "train.steps=400",
            "train.lr=0.001",
            "train.batch_target=4",
            "train.weight_decay=0",
        ),
    )
)
