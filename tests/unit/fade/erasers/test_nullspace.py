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
    trained = ["hinge", "guidance", "words", "neighbours", "free"]
    assert known_erasers()["nullspace"] == [*trained, "untrained"]
    of = {variant: get_eraser("nullspace", variant) for variant in trained}
    assert {v: m.loss for v, m in of.items() if v != "guidance"} == dict.fromkeys(
        ["hinge", "words", "neighbours", "free"], attenuation
    )
    assert of["guidance"].loss is get_eraser("esd", "x").loss
    assert of["free"].space is None and of["hinge"].space is of["guidance"].space is space
    words, neighbours = get_eraser("nullspace", "words").space, get_eraser("nullspace", "neighbours").space
    assert torch.equal(words([HAND], 1, TINY), space([HAND], 1, TINY, neighbours=False))
    assert torch.equal(neighbours([HAND], 1, TINY), space([HAND], 1, TINY, words=False))


def test_untrained_solves_its_equation():
    """Against the normal equations of the whole change, with the states one by one."""
    config, g = MethodConfig(ridge=0.01), torch.Generator().manual_seed(1)
    b, weight = make_batch(5), torch.randn(6, 5, generator=g, dtype=torch.float64)
    change = get_eraser("nullspace", "untrained").solve({"k": weight}, [b], config)["k"]
    rows, zeros = space([b], 2, config).double(), torch.zeros(5, 5, dtype=torch.float64)
    targets = [
        (c, n) for one in b.extra["phrasings"].tokens for c, n in zip(one, b.null.tokens[0], strict=True)
    ]
    kept = zeros.clone()
    for side in ([b.null.tokens[0], *b.neighbours.tokens], b.extra["language"].tokens):
        side_states = [c for one in side for c in one]
        kept = kept + sum(torch.outer(c, c) for c in side_states) / len(side_states) / 2
    kept = kept + 0.01 * kept.trace() / 5 * torch.eye(5, dtype=torch.float64)
    moment = sum(torch.outer(c, c) for c, _ in targets) / len(targets)
    asked = sum(torch.outer(weight @ (n - c), c) for c, n in targets) / len(targets)
    up = asked @ rows.T @ torch.linalg.inv(rows @ (moment + kept) @ rows.T)
    assert torch.allclose(change, up @ rows, rtol=1e-9, atol=1e-12)


def test_untrained_leads_the_target_to_the_null_prompt_and_leaves_what_is_kept():
    """Two axes are the target's alone; the first it shares with the neighbour."""
    target = states([3.0, 2.0, 0, 0, 0], [3.0, 0, 0, 2.0, 0])
    null, near, word = (states([0.0] * i + [v] + [0.0] * (4 - i)) for i, v in ((4, 1.0), (0, 4.0), (2, 1.0)))
    b = batch(target, null, near, word)
    weight = torch.randn(6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    change = get_eraser("nullspace", "untrained").solve({"k": weight}, [b], TINY)["k"]
    assert all((change @ one.tokens[0, 0]).norm() < 1e-3 for one in (null, near, word))
    wanted = weight @ (null.tokens[0] - target.tokens[0]).T
    assert torch.allclose(change @ target.tokens[0].T, wanted, atol=1e-3)
