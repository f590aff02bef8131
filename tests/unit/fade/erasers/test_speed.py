"""SPEED on states whose free directions are known by hand, and against its minimum found otherwise."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from fade.config import MethodConfig
from fade.erasers.base import get_eraser
from fade.erasers.nullspace import kept_moment
from fade.erasers.speed import free_directions
from fade.errors import TrainingError
from fade.models.conditioning import Conditioning
from tests.unit.fade.erasers.test_fade import make_batch
from tests.unit.fade.erasers.test_nullspace import states
from tests.unit.fade.erasers.test_uce import preparation

SIZE = 6
PLAIN = MethodConfig(perturbation=0.0, threshold=1e-6, identity_weight=0.5)
EYE = torch.eye(SIZE, dtype=torch.float64)


def axis(i, length=1.0):
    return (length * EYE[i]).tolist()


def hand(target):
    """What must stay lies in the first three axes: the null prompt, the neighbour, a word."""
    goal = states(*[[0.0] * SIZE for _ in target])
    extra = {"edited": states(*target), "goal": goal, "language": states(axis(2, 2.0))}
    kept = {"null": states(axis(0)), "neighbours": states(axis(1, 3.0))}
    return dataclasses.replace(make_batch(), **kept, extra=extra)


def solved(batches, config=PLAIN, variant="all-tokens", seed=0):
    weight = torch.randn(8, SIZE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return weight, get_eraser("speed", variant).solve({"k": weight}, batches, config)["k"]


def test_what_must_stay_is_read_as_before_and_the_target_goes_as_far_as_is_free():
    b = hand([[0, 3.0, 0, 2.0, 0, 0]])  # shares the neighbour's axis
    weight, change = solved([b])
    for kept in (b.null, b.neighbours, b.extra["language"]):
        assert (change @ kept.tokens[0, 0]).norm() < 1e-9
    # g = (0, 0, 0, 2, 0, 0): the change at the target is its goal times |g|^2 / (|g|^2 + lam)
    e = b.extra["edited"].tokens[0, 0]
    assert torch.allclose(change @ e, weight @ -e * 4 / 4.5, atol=1e-9)


def test_it_is_the_minimum_of_its_objective_among_the_changes_that_keep():
    """By gradient descent on the change in the free directions, written as the objective stands."""
    b = hand([[1.0, 3.0, 0, 2.0, 1.0, 0], [0, 0, 1.0, 0, -1.0, 2.0]])
    weight, change = solved([b])
    keeps = torch.diag(torch.tensor([0, 0, 0, 1, 1, 1], dtype=torch.float64))

    def objective(d):
        e, a = b.extra["edited"].tokens[0], b.extra["goal"].tokens[0]
        asked = ((weight + d @ keeps) @ e.T - weight @ a.T) ** 2
        return asked.sum() + 0.5 * ((d @ keeps) ** 2).sum()

    d = torch.zeros_like(weight, requires_grad=True)
    optimizer = torch.optim.LBFGS([d], max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-15)

    def closure():
        optimizer.zero_grad()
        loss = objective(d)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert torch.allclose(d.detach() @ keeps, change, atol=1e-6)
    assert objective(change) <= objective(d.detach()) + 1e-9


def test_the_null_prompt_is_kept_by_equality_where_the_threshold_would_let_it_go():
    b = hand([[0, 0, 0, 2.0, 1.0, 0]])
    faint = states([1.0, 0, 0, 0.01, 0, 0])  # a ten-thousandth of its energy on a free axis
    b = dataclasses.replace(b, null=faint)
    loose = PLAIN.model_copy(update={"threshold": 0.01})
    _, change = solved([b], loose)
    assert (change @ faint.tokens[0, 0]).norm() < 1e-9
    assert (change @ b.extra["edited"].tokens[0, 0]).norm() > 0.1


def test_a_higher_threshold_frees_more():
    b = hand([[0, 0, 0, 1.0, 0, 0]])
    moment = kept_moment(b)
    widths = [
        free_directions(moment, EYE, b.null.tokens[0], PLAIN.model_copy(update={"threshold": t})).shape[1]
        for t in (1e-6, 2.9, 100.0)
    ]
    assert widths == [3, 4, 5]  # at last all but the null prompt's own


def test_perturbations_take_away_what_a_weight_reads_least():
    """The sixth axis is nearly unread: a change there would tell apart prompts that were one to the layer."""
    b = hand([[0, 0, 0, 1.0, 0, 1.0]])
    weight = torch.diag(torch.tensor([3.0, 3.0, 3.0, 2.0, 2.0, 0.1], dtype=torch.float64))
    config = PLAIN.model_copy(update={"perturbation": 0.1})
    free = free_directions(kept_moment(b), weight, b.null.tokens[0], config)
    assert free.shape == (SIZE, 2) and free[5].norm() < 1e-6 and free[3].norm() == pytest.approx(1)
    without = free_directions(kept_moment(b), weight, b.null.tokens[0], PLAIN)
    assert without.shape == (SIZE, 3)


def test_where_nothing_is_free_the_direction_is_that_is_kept_least():
    b = hand([[0, 0, 0, 1.0, 0, 1.0]])
    words = [axis(i, 2.0) for i in range(SIZE - 1)] + [axis(SIZE - 1, 1.0)]
    full = dataclasses.replace(b, extra={**b.extra, "language": states(*words)})
    free = free_directions(kept_moment(full), EYE, b.null.tokens[0], PLAIN)
    assert free.shape == (SIZE, 1) and free[SIZE - 1].abs().item() == pytest.approx(1)


def test_a_null_prompt_that_fills_the_text_space_is_an_error_with_a_way_out():
    b = hand([[0, 0, 0, 1.0, 0, 0]])
    with pytest.raises(TrainingError, match=r"fill all 6 dimensions.* Next: name another method"):
        free_directions(kept_moment(b), EYE, EYE, PLAIN)


def test_several_targets_are_solved_together():
    one, two = hand([[0, 0, 0, 2.0, 0, 0]]), hand([[0, 0, 0, 0, 2.0, 0]])
    weight, change = solved([one, two])
    for b in (one, two):
        e = b.extra["edited"].tokens[0, 0]
        assert torch.allclose(change @ e, weight @ -e * 4 / 4.5, atol=1e-9)


class Words:
    """What `nullspace.prepare` reads of a tokenizer."""

    def get_vocab(self):
        return {"sky</w>": 0, "red</w>": 1}


@pytest.mark.parametrize(("variant", "places"), [("all-tokens", list(range(7))), ("last-token", [2, 5])])
def test_the_variants_take_all_tokens_or_the_names_last(variant, places):
    p, config = preparation(), MethodConfig(words=2)
    p.model.tokenizer = Words()
    extra = get_eraser("speed", variant).prepare(p, config)(torch.Generator())
    assert torch.equal(extra["edited"].tokens[0], p.conditioning.tokens[0][places])
    assert torch.equal(extra["goal"].tokens[0], p.null.tokens[0][places])
    hinge = get_eraser("nullspace", "hinge").prepare(p, config)(torch.Generator())
    assert torch.equal(extra["language"].tokens, hinge["language"].tokens)


def test_both_keep_what_nullspace_keeps():
    b = make_batch(3)
    extra = {**b.extra, "edited": b.target, "goal": b.null}
    b = dataclasses.replace(b, extra=extra)
    other = dataclasses.replace(b, extra={**extra, "language": Conditioning(b.neighbours.tokens * 3)})
    assert not torch.equal(kept_moment(b), kept_moment(other))
    assert get_eraser("speed", "all-tokens").requires_heldout
