"""The space of the null-space method on states whose answer is known by hand, and what each variant leaves
out."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from fade.config import MethodConfig
from fade.erasers.base import get_eraser, known_erasers
from fade.erasers.nullspace import attenuation, space
from fade.errors import TrainingError
from fade.models.conditioning import Conditioning
from tests.unit.fade.erasers.test_fade import Toy, make_batch

TINY = MethodConfig(ridge=1e-9)


def states(*rows):
    """One prompt of as many tokens as rows."""
    return Conditioning(torch.tensor([rows], dtype=torch.float64))


def batch(target, null, neighbours, language):
    return dataclasses.replace(
        make_batch(), null=null, neighbours=neighbours, extra={"phrasings": target, "language": language}
    )


HAND = batch(
    states(
        [3.0, 0, 0, 0], [3.0, 2.0, 0, 0], [3.0, 2.0, 5.0, 0]
    ),  # shares its first axis with the neighbour, its third with a word
    states([0, 0, 0, 1.0]),
    states([4.0, 0, 0, 0]),
    states([0, 0, 1.0, 0]),
)


def test_it_answers_to_what_only_the_target_has():
    row = space([HAND], 1, TINY)
    assert row.shape == (1, 4) and row.dtype == torch.float32
    # (0, s, 0, 0), s such that the root mean square over (0, 2 s, 2 s) is 1
    assert row[0].tolist() == pytest.approx([0, (3 / 8) ** 0.5, 0, 0], abs=1e-3)


def test_a_side_that_is_left_out_is_not_kept():
    """Without words the third axis is nobody's but the target's, without neighbours the first; the longer one
    wins each time."""
    without_words = space([HAND], 2, TINY, words=False)
    assert (without_words @ HAND.extra["language"].tokens[0, 0].float()).abs().max() > 0.1
    assert (without_words @ HAND.neighbours.tokens[0, 0].float()).abs().max() < 1e-3
    without_neighbours = space([HAND], 2, TINY, neighbours=False)
    assert (without_neighbours @ HAND.neighbours.tokens[0, 0].float()).abs().max() > 0.1
    assert (without_neighbours @ HAND.extra["language"].tokens[0, 0].float()).abs().max() < 1e-3
    for rows in (without_words, without_neighbours):
        assert (
            rows @ HAND.null.tokens[0, 0].float()
        ).abs().max() < 1e-3  # the unconditional score, in every variant


def test_a_large_ridge_gives_up_the_null_space_for_the_target():
    """At the limit it is the target's own leading direction, whatever else answers to it."""
    row = space([HAND], 1, MethodConfig(ridge=1e9))[0]
    flat = HAND.extra["phrasings"].tokens[0]
    leading = torch.linalg.eigh(flat.T @ flat)[1][:, -1]
    assert abs(float(torch.nn.functional.cosine_similarity(row.double(), leading, dim=0))) == pytest.approx(
        1, abs=1e-5
    )


def test_several_targets_share_the_rank_and_each_has_a_row():
    other = dataclasses.replace(
        HAND, extra={**HAND.extra, "phrasings": states([0, 7.0, 0, 0])}, neighbours=states([4.0, 0, 0, 0])
    )
    rows = space([HAND, other], 3, TINY)
    assert rows.shape == (3, 4)
    assert torch.equal(rows[:2], space([HAND], 2, TINY)) and torch.equal(rows[2:], space([other], 1, TINY))
    with pytest.raises(
        TrainingError, match=r"mesh.rank 1 is too low for 2 targets.*set mesh.rank and mesh.alpha to 2"
    ):
        space([HAND, other], 1, TINY)


def test_a_vocabulary_without_words_leaves_the_neighbours():
    alone = dataclasses.replace(HAND, extra={**HAND.extra, "language": HAND.extra["language"][:0]})
    assert torch.equal(space([alone], 1, TINY), space([HAND], 1, TINY, words=False))


def test_a_direction_that_tells_less_says_less():
    """Two axes that are the target's and the kept ones' alike: 9 against 1, and 4 against 4, of four equally
    long ones."""
    kept = states([1.0, 0, 0, 0], [0, 2.0, 0, 0], [0, 0, 3.0, 0], [0, 0, 0, 3.0])
    b = batch(states([3.0, 0, 0, 0], [0, 2.0, 0, 0]), kept, kept, kept)
    rows = space([b], 2, TINY).double()
    assert rows[0].abs().tolist() == pytest.approx(
        [2**0.5 / 3, 0, 0, 0], abs=1e-6
    )  # answers 2 ** 0.5 and 0: a root mean square of 1
    assert rows[1].abs().tolist() == pytest.approx([0, 2**0.5 / 6, 0, 0], abs=1e-6)
    assert (kept.tokens[0] @ rows.T).square().mean(0).tolist() == pytest.approx(
        [1 / 18, 1 / 18], rel=1e-5
    )  # what is kept hears both alike


def test_the_sign_is_fixed():
    row = space([HAND], 1, TINY)[0]
    assert row[row.abs().argmax()] > 0


def test_the_loss_is_fades_without_what_the_space_holds():
    eps, b, config = Toy(), make_batch(3), MethodConfig(adjacency_weight=0.0)
    loss, terms = attenuation(eps, b, config)
    assert eps.calls == [("teacher", len(b.x) * (len(b.neighbours) + 2)), ("student", len(b.x))]
    wanted, fades = get_eraser("fade", "paper").loss(Toy(), b, config)
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-12)
    assert terms.keys() == fades.keys() - {"adjacency"}
    assert all(terms[name].item() == pytest.approx(fades[name].item(), rel=1e-12) for name in terms)
    loss.backward()
    assert eps.shift.grad.abs() > 0 and not any(term.requires_grad for term in terms.values())


def test_every_variant_leaves_out_just_what_it_says():
    assert known_erasers()["nullspace"] == ["hinge", "guidance", "words", "neighbours", "free"]
    of = {variant: get_eraser("nullspace", variant) for variant in known_erasers()["nullspace"]}
    assert {v: m.loss for v, m in of.items() if v != "guidance"} == dict.fromkeys(
        ["hinge", "words", "neighbours", "free"], attenuation
    )
    assert of["guidance"].loss is get_eraser("esd", "x").loss
    assert of["free"].space is None and of["hinge"].space is of["guidance"].space is space
    words, neighbours = get_eraser("nullspace", "words").space, get_eraser("nullspace", "neighbours").space
    assert torch.equal(words([HAND], 1, TINY), space([HAND], 1, TINY, neighbours=False))
    assert torch.equal(neighbours([HAND], 1, TINY), space([HAND], 1, TINY, words=False))
