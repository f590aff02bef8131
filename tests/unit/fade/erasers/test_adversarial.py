"""The adversarial eraser against a literal float64 implementation, and its inner search."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from fade.erasers.adversarial import Config, adversarial, prepare, searched
from fade.erasers.base import Preparation, get_eraser
from fade.models.conditioning import Conditioning
from tests.unit.fade.erasers.test_fade import N_A, N_T, Toy, at, make_batch, mean, squared

CONFIG = Config(erase_weight=1.7, adjacency_weight=0.6, eta=1.4, search_steps=3, search_rate=0.05)


def goals(eps, batch):
    """What the search wants: the original's predictions for the target."""
    return eps.teacher(batch.x, batch.t, batch.target.expand(len(batch.x)))


def literal(eps, b, found, eta):
    e, null = b.target.tokens[0], b.null.tokens[0]
    erase, attacked, kept = [], [], []
    for x, t in zip(b.x, b.t, strict=True):
        old, free = (torch.tensor(at(eps, "teacher", x, t, one)) for one in (e, null))
        goal = (free - eta * (old - free)).tolist()
        erase.append(squared(at(eps, "student", x, t, e), goal))
        attacked.append(squared(at(eps, "student", x, t, found), goal))
        kept.append(squared(at(eps, "student", x, t, null), at(eps, "teacher", x, t, null)))
    under = {"adjacency": b.neighbours.tokens[b.which], "words": b.extra["words"].tokens.repeat(N_A, 1, 1)}
    beside = {
        name: mean(
            squared(at(eps, "student", x, t, one), at(eps, "teacher", x, t, one))
            for x, t, one in zip(b.x_adj, b.t_adj, prompts, strict=False)
        )
        for name, prompts in under.items()
    }
    return {"erase": mean(erase), "attacked": mean(attacked), "null": mean(kept), **beside}


@pytest.mark.parametrize("seed", range(3))
def test_the_loss_equals_the_literal_one(seed):
    torch.set_default_dtype(torch.float64)
    try:
        eps, batch = Toy(), make_batch(seed)
        found = searched(eps, batch, goals(eps, batch), CONFIG)
        loss, terms = adversarial(eps, batch, CONFIG)
        wanted = literal(eps, batch, found.tokens[0], CONFIG.eta)
    finally:
        torch.set_default_dtype(torch.float32)
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(wanted, rel=1e-9)
    kept = wanted["adjacency"] + wanted["null"] + wanted["words"]
    assert loss.item() == pytest.approx(1.7 * (wanted["erase"] + wanted["attacked"]) + 0.6 * kept, rel=1e-9)
    assert wanted["attacked"] != pytest.approx(wanted["erase"])


def test_the_search_comes_nearer_and_takes_steps_of_its_rate():
    eps, batch = Toy(), make_batch(1)
    start, goal = batch.extra["start"].tokens, goals(eps, batch)

    def error(tokens):
        prompts = batch.target.with_tokens(tokens).expand(N_T)
        return ((eps.probe(batch.x, batch.t, prompts) - goal) ** 2).mean().item()

    one = searched(eps, batch, goal, CONFIG.model_copy(update={"search_steps": 1})).tokens
    stride = 0.05 * start.square().mean().sqrt().item()
    assert (one - start).abs().max().item() == pytest.approx(stride)
    assert error(searched(eps, batch, goal, CONFIG).tokens) < error(one) < error(start)
    assert torch.equal(searched(eps, batch, goal, Config(search_steps=0)).tokens, start)


def test_the_search_leaves_no_gradient_and_costs_its_passes():
    eps, batch = Toy(), make_batch(2)
    loss, _ = adversarial(eps, batch, CONFIG)
    assert eps.shift.grad is None and batch.extra["start"].tokens.requires_grad is False
    student, teacher = 3 * N_T + 2 * N_A, 2 * N_T + 2 * N_A
    assert eps.calls == [("teacher", teacher), *[("probe", N_T)] * 3, ("student", student)]
    loss.backward()
    assert eps.shift.grad is not None and eps.shift.grad != 0


def test_only_the_tokens_are_searched():
    batch = make_batch(3)
    pooled = torch.ones(1, 2, dtype=torch.float64)
    batch = replace(batch, target=replace(batch.target, pooled=pooled))
    found = searched(Toy(), batch, goals(Toy(), batch), CONFIG)
    assert torch.equal(found.pooled, pooled) and not torch.equal(found.tokens, batch.target.tokens)


class Words:
    """What a preparation reads of a model: words by number, each of two equal states."""

    WORDS = ("ant", "bee", "cow", "dog", "elk", "koala")

    tokenizer = SimpleNamespace(get_vocab=lambda: {f"{word}</w>": i for i, word in enumerate(Words.WORDS)})

    def encode(self, prompts):
        return Conditioning(torch.stack([torch.full((2, 3), float(len(one))) for one in prompts]))


def preparation(words=3):
    one = [Conditioning(torch.full((n, 2, 3), value)) for n, value in ((1, -1.0), (1, -2.0), (2, -3.0))]
    e, null, neighbours = one
    names = ("panda bear", "koala")
    given = Preparation(
        Words(), "a {concept}", "panda", e, ("koala",), 4, 5, null, neighbours, names, "", null
    )
    return prepare(given, Config(words=words))


def test_a_step_starts_at_the_target_in_half_of_the_steps_else_at_what_stays():
    extras = preparation()
    drawn = [extras(torch.Generator().manual_seed(seed)) for seed in range(400)]
    starts = torch.cat([one["start"].tokens[:, 0, 0] for one in drawn])
    assert all(len(one["start"]) == 1 and len(one["words"]) == 4 for one in drawn)
    assert 0.4 < (starts == -1).double().mean() < 0.6
    assert (starts == -3).any() and (starts > 0).any() and not (starts == -2).any()
    again = extras(torch.Generator().manual_seed(7))
    assert torch.equal(again["words"].tokens, drawn[7]["words"].tokens)
    assert any(not torch.equal(one["words"].tokens, again["words"].tokens) for one in drawn)


def test_without_words_the_null_prompt_is_kept_in_their_place():
    found = preparation(words=0)(torch.Generator().manual_seed(0))
    assert (found["words"].tokens == -2).all()


def test_it_is_given_the_targets_pictures():
    eraser = get_eraser("adversarial", "embedding")
    assert eraser.real_pictures and "the target's pictures in the data set" in eraser.given
    assert not get_eraser("esd", "x").real_pictures
