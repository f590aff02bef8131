"""UCE's forms of 2023 and 2025: which token states they take, and the equation on these."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from fade.config import MethodConfig
from fade.erasers.base import Preparation, get_eraser
from fade.models.conditioning import Conditioning
from tests.unit.fade.erasers.test_fade import make_batch

WIDTH = 5
PLACES = {"panda": 2, "bear": 1, "koala": 3, "fox": 2}
"""Where the name's last token stands among seven: five of one text encoder, two of another."""


class TwoEncoders:
    """Prompts of seven token states; the second encoder's tokens begin at 5, its names end there."""

    tokenizer = None

    def encode(self, prompts):
        rows = [torch.Generator().manual_seed(sum(map(ord, prompt))) for prompt in prompts]
        return Conditioning(torch.stack([torch.randn(7, WIDTH, generator=g).double() for g in rows]))

    def name_to_end(self, template, name):
        assert template == "a {concept}"
        return [slice(PLACES[name], 5), slice(5, None)]


def preparation(replacement=""):
    model, names = TwoEncoders(), ("koala", "fox")
    target, null = model.encode(["a panda"]), model.encode([""])
    near = model.encode([f"a {name}" for name in names])
    replaced = model.encode([f"a {replacement}"]) if replacement else null
    common = (model, "a {concept}", "panda", target, ("wolf",), 2, 0)
    return Preparation(*common, null, near, names, replacement, replaced)


def prepared(variant, config, replacement=""):
    extra = get_eraser("uce", variant).prepare(preparation(replacement), config)(torch.Generator())
    return {name: one.tokens[0] for name, one in extra.items()}


def test_the_form_of_2023_edits_from_the_last_token_to_the_end_and_keeps_the_null_prompt():
    p, found = preparation(), prepared("names-2023", MethodConfig())
    places = [2, 3, 4, 5, 6]
    assert torch.equal(found["edited"], p.conditioning.tokens[0][places])
    assert torch.equal(found["goal"], p.null.tokens[0][places])
    assert torch.equal(found["preserved"], p.null.tokens[0])


def test_with_preserved_concepts_it_keeps_their_states_from_the_last_token_on():
    p, found = preparation(), prepared("names-2023", MethodConfig(anchors="neighbourhood"))
    koala, fox = p.neighbours.tokens
    kept = [p.null.tokens[0], koala[3:], fox[2:]]
    assert torch.equal(found["preserved"], torch.cat(kept))


def test_the_form_of_2025_edits_the_last_token_alone_and_keeps_the_concepts():
    p, found = preparation(), prepared("names-2025", MethodConfig())
    assert torch.equal(found["edited"], p.conditioning.tokens[0][[2, 5]])
    assert torch.equal(found["goal"], p.null.tokens[0][[2, 5]])
    koala, fox = p.neighbours.tokens
    assert torch.equal(found["preserved"], torch.cat([koala[[3, 5]], fox[[2, 5]]]))
    assert get_eraser("uce", "names-2025").recipe == ("method.identity_weight=0.5",)


def test_a_replacement_begins_at_its_own_last_token():
    """The bear's ends one token earlier, so that the last of its states has nothing to stand for."""
    p = preparation("bear")
    found = prepared("names-2023", MethodConfig(), "bear")
    assert torch.equal(found["goal"], p.replaced.tokens[0][[1, 2, 3, 5, 6]])
    assert torch.equal(found["edited"], p.conditioning.tokens[0][[2, 3, 4, 5, 6]])


@pytest.mark.parametrize("variant", ["names-2023", "names-2025"])
def test_both_solve_the_published_equation_on_these_states(variant):
    config = MethodConfig(identity_weight=0.7)
    batches = []
    for seed in range(2):
        g = torch.Generator().manual_seed(seed)
        sizes = {"edited": 3, "goal": 3, "preserved": 4}
        states = {
            name: Conditioning(torch.randn(1, n, WIDTH, generator=g).double()) for name, n in sizes.items()
        }
        batches.append(dataclasses.replace(make_batch(seed), extra=states))
    weight = torch.randn(6, WIDTH, generator=torch.Generator().manual_seed(9)).double()
    change = get_eraser("uce", variant).solve({"k": weight}, batches, config)["k"]
    numerator, denominator = 0.7 * weight, 0.7 * torch.eye(WIDTH, dtype=torch.float64)
    for batch in batches:
        pairs = zip(batch.extra["edited"].tokens[0], batch.extra["goal"].tokens[0], strict=True)
        both = [*pairs, *((c, c) for c in batch.extra["preserved"].tokens[0])]
        for c, goal in both:
            numerator = numerator + torch.outer(weight @ goal, c)
            denominator = denominator + torch.outer(c, c)
    assert torch.allclose(weight + change, numerator @ torch.linalg.inv(denominator), rtol=1e-9, atol=1e-12)
