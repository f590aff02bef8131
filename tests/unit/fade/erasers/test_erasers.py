"""The other erasers' losses against literal float64 implementations, and what each may and may not touch."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from fade.config import MethodConfig
from fade.erasers.base import get_eraser, known_erasers, with_anchors
from fade.errors import UsageError
from tests.unit.fade.erasers.test_fade import (
    N_A,
    Toy,
    at,
    make_batch,
    mean,
    official_batch,
    squared,
)

WEIGHTS = {
    "erase_weight": 1.7,
    "adjacency_weight": 0.6,
    "guidance_weight": 2.3,
    "drift_weight": 1.9,
    "eta": 1.4,
    "anchoring_weight": 3.1,
}


class InNoise:
    """Noise that is read from a v: all latents at one time, by the same two factors."""

    def __init__(self, eps, kept):
        self.eps, self.kept = eps, kept

    def student(self, x, t, cond):
        return math.sqrt(self.kept) * self.eps.student(x, t, cond) + math.sqrt(1 - self.kept) * x

    def teacher(self, x, t, cond):
        return math.sqrt(self.kept) * self.eps.teacher(x, t, cond) + math.sqrt(1 - self.kept) * x

    def probe(self, x, t, cond):
        return math.sqrt(self.kept) * self.eps.probe(x, t, cond) + math.sqrt(1 - self.kept) * x


LOSSES = [
    (name, variant, anchors)
    for name, variants in known_erasers().items()
    for variant in variants
    for anchors in ("none", "neighbourhood")
    if get_eraser(name, variant).loss and (anchors == "none" or get_eraser(name, variant).accepts_anchors)
]
OTHER_LATENTS = {("fade", "official"), ("fade", "official-sampled")}
"""Its hinge compares predictions at different latents, as its authors' code does."""


def batch_of(name, variant, seed):
    """A batch with whatever latents and prompts the eraser reads."""
    if (name, variant) in OTHER_LATENTS:
        return official_batch(seed)
    batch = make_batch(seed)
    return dataclasses.replace(batch, extra={**batch.extra, "anchor": batch.replacement})


@pytest.mark.parametrize("kept", [0.0, 0.3])
@pytest.mark.parametrize(("name", "variant", "anchors"), LOSSES)
def test_in_noise_a_loss_is_the_same_but_for_a_factor(name, variant, anchors, kept):
    """The terms in x cancel, and nothing is left at pure noise (kept = 0); a hinge has its margin beside."""
    eraser, batch = get_eraser(name, variant), batch_of(name, variant, 2)
    loss = eraser.loss if anchors == "none" else with_anchors(eraser.loss, 0.6)
    config = MethodConfig(name=name, variant=variant, margin=60.0, **WEIGHTS)
    own, noise = (loss(eps, batch, config)[1] for eps in (Toy(), InNoise(Toy(), kept)))
    margin = 60.0 if name == "fade" or (name == "nullspace" and variant != "guidance") else 0.0
    beside = {"erase": margin}
    same = {
        key: noise[key].item() - beside.get(key, 0)
        == pytest.approx(kept * (own[key].item() - beside.get(key, 0)), rel=1e-9, abs=1e-9)
        for key in own
    }
    assert all(value.item() != 0 for value in own.values())
    assert all(same.values()) == ((name, variant) not in OTHER_LATENTS), same


def minus(a, b):
    return (torch.tensor(a, dtype=torch.float64) - torch.tensor(b, dtype=torch.float64)).tolist()


def literal_surgical(eps, b):
    e, null, a = b.target.tokens[0], b.null.tokens[0], b.replacement.tokens[0]
    guidance = []
    for x, t in zip(b.x, b.t, strict=True):
        new = minus(at(eps, "student", x, t, e), at(eps, "student", x, t, null))
        old = minus(at(eps, "teacher", x, t, a), at(eps, "teacher", x, t, null))
        guidance.append(squared(new, old))
    everywhere = [*zip(b.x, b.t, strict=True), *zip(b.x_adj, b.t_adj, strict=True)]
    drift = [squared(at(eps, "student", x, t, null), at(eps, "teacher", x, t, null)) for x, t in everywhere]
    return mean(guidance), mean(drift)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("variant", ["guidance", "stop_grad"])
def test_surgical_equals_the_literal_one(variant, seed):
    eps, batch = Toy(), make_batch(seed)
    loss, terms = get_eraser("surgical", variant).loss(eps, batch, MethodConfig(**WEIGHTS))
    guidance, drift = literal_surgical(eps, batch)
    assert terms["guidance"].item() == pytest.approx(guidance, rel=1e-12)
    assert terms["drift"].item() == pytest.approx(drift, rel=1e-12)
    assert loss.item() == pytest.approx(2.3 * guidance + 1.9 * drift, rel=1e-12)


def test_surgical_without_an_alternative_wants_no_guidance_at_all():
    batch = make_batch(1)
    batch = type(batch)(**{**vars(batch), "replacement": batch.null})
    eps = Toy(0.0)
    _, terms = get_eraser("surgical", "guidance").loss(eps, batch, MethodConfig())
    own = mean(
        squared(
            at(eps, "teacher", x, t, batch.target.tokens[0]), at(eps, "teacher", x, t, batch.null.tokens[0])
        )
        for x, t in zip(batch.x, batch.t, strict=True)
    )
    assert terms["guidance"].item() == pytest.approx(own, rel=1e-12) and terms["drift"].item() == 0


def test_stop_grad_lets_the_guidance_term_move_the_target_alone():
    """The student here has a part for the null prompt that nothing else uses."""

    class Split:
        def __init__(self, batch):
            self.toy, self.batch = Toy(0.3), batch
            self.null_part = torch.zeros((), dtype=torch.float64, requires_grad=True)

        def teacher(self, x, t, cond):
            return self.toy.teacher(x, t, cond)

        def student(self, x, t, cond):
            is_null = (cond.tokens == self.batch.null.tokens).flatten(1).all(1).double()
            return self.toy.student(x, t, cond) + (is_null * self.null_part)[:, None, None, None]

    batch, config = make_batch(2), MethodConfig(guidance_weight=1, drift_weight=0)
    moved = {}
    for variant in ("guidance", "stop_grad"):
        eps = Split(batch)
        loss, _ = get_eraser("surgical", variant).loss(eps, batch, config)
        (moved[variant],) = torch.autograd.grad(loss, eps.null_part)
    assert moved["guidance"] != 0 and moved["stop_grad"] == 0


@pytest.mark.parametrize("variant", known_erasers()["esd"])
def test_esd_equals_the_literal_one(variant):
    eps, batch = Toy(), make_batch(3)
    loss, terms = get_eraser("esd", variant).loss(eps, batch, MethodConfig(**WEIGHTS))
    e, null, each = batch.target.tokens[0], batch.null.tokens[0], []
    for x, t in zip(batch.x, batch.t, strict=True):
        old, empty = (torch.tensor(at(eps, "teacher", x, t, c), dtype=torch.float64) for c in (e, null))
        each.append(squared(at(eps, "student", x, t, e), (empty - 1.4 * (old - empty)).tolist()))
    assert terms["erase"].item() == pytest.approx(mean(each), rel=1e-12)
    assert loss.item() == pytest.approx(1.7 * mean(each), rel=1e-12)


def test_spm_equals_the_literal_one():
    eps, batch = Toy(), make_batch(3)
    loss, terms = get_eraser("spm", "latent-anchoring").loss(eps, batch, MethodConfig(**WEIGHTS))
    e, null, erase, anchoring = batch.target.tokens[0], batch.null.tokens[0], [], []
    for x, t, r in zip(batch.x, batch.t, batch.extra["random"].tokens, strict=True):
        old, empty = (torch.tensor(at(eps, "teacher", x, t, c), dtype=torch.float64) for c in (e, null))
        erase.append(squared(at(eps, "student", x, t, e), (empty - 1.4 * (old - empty)).tolist()))
        anchoring.append(squared(at(eps, "student", x, t, r), at(eps, "teacher", x, t, r)))
    assert terms["erase"].item() == pytest.approx(mean(erase), rel=1e-12)
    assert terms["anchoring"].item() == pytest.approx(mean(anchoring), rel=1e-12)
    assert loss.item() == pytest.approx(1.7 * mean(erase) + 3.1 * mean(anchoring), rel=1e-12)


def test_spm_anchors_nothing_where_nothing_moved():
    _, terms = get_eraser("spm", "latent-anchoring").loss(Toy(0.0), make_batch(3), MethodConfig())
    assert terms["anchoring"].item() == 0


def test_ablation_towards_the_broader_concept_equals_the_literal_one():
    eps, batch = Toy(), batch_of("ablation", "broader", 4)
    loss, _ = get_eraser("ablation", "broader").loss(eps, batch, MethodConfig(**WEIGHTS))
    prompts = (batch.target, batch.extra["anchor"])
    each = [
        squared(*(at(eps, "student", x, t, cond.tokens[0]) for cond in prompts))
        for x, t in zip(batch.x, batch.t, strict=True)
    ]
    assert loss.item() == pytest.approx(1.7 * mean(each), rel=1e-12)
    assert all(who == "student" for who, _ in eps.calls)


def test_ablation_towards_the_nearest_equals_the_literal_one_and_its_teacher_carries_no_gradient():
    eps, batch = Toy(), make_batch(4)
    loss, _ = get_eraser("ablation", "nearest").loss(eps, batch, MethodConfig(**WEIGHTS))
    mine = [j for j in range(N_A) if int(batch.which[j]) == 0]
    pairs = [(batch.x_adj[j], batch.t_adj[j]) for j in mine]
    each = [
        squared(*(at(eps, "student", x, t, cond.tokens[0]) for cond in (batch.target, batch.neighbours)))
        for x, t in pairs
    ]
    assert loss.item() == pytest.approx(1.7 * mean(each), rel=1e-12)
    x, t = torch.stack([p[0] for p in pairs]), torch.stack([p[1] for p in pairs])
    fixed = eps.student(x, t, batch.neighbours[:1].expand(len(mine))).detach()
    by_hand = 1.7 * ((eps.student(x, t, batch.target.expand(len(mine))) - fixed) ** 2).mean()
    (found,), (wanted,) = torch.autograd.grad(loss, eps.shift), torch.autograd.grad(by_hand, eps.shift)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-12)


def test_ablation_says_what_it_lacks():
    with pytest.raises(UsageError, match="batch_neighbours"):
        get_eraser("ablation", "nearest").loss(Toy(), make_batch(5, which=(1, 2)), MethodConfig())


def test_anchors_add_fades_adjacency_term():
    eps, batch, config = Toy(), make_batch(6), MethodConfig(**WEIGHTS)
    plain, _ = get_eraser("esd", "x").loss(eps, batch, config)
    total, terms = with_anchors(get_eraser("esd", "x").loss, config.adjacency_weight)(eps, batch, config)
    each = [
        squared(*(at(eps, who, x, t, batch.neighbours.tokens[i]) for who in ("student", "teacher")))
        for x, t, i in zip(batch.x_adj, batch.t_adj, batch.which, strict=True)
    ]
    assert terms["adjacency"].item() == pytest.approx(mean(each), rel=1e-12)
    assert total.item() == pytest.approx(plain.item() + 0.6 * mean(each), rel=1e-12)


@pytest.mark.parametrize(
    ("name", "variant"), [(name, variant) for name, variant, anchors in LOSSES if anchors == "none"]
)
def test_every_method_wants_the_student_changed_and_says_its_terms(name, variant):
    """At the start of training, where the student is the teacher, each loss is finite and has a gradient."""
    eps, batch = Toy(0.0), batch_of(name, variant, 7)
    if name == "ablation":
        eps = Toy(0.3)
    loss, terms = get_eraser(name, variant).loss(eps, batch, MethodConfig(variant=variant, margin=60.0))
    (gradient,) = torch.autograd.grad(loss, eps.shift)
    assert math.isfinite(loss.item()) and math.isfinite(gradient.item()) and gradient.item() != 0
    assert terms and not any(term.requires_grad for term in terms.values())


@pytest.mark.parametrize("targets", [1, 2])
@pytest.mark.parametrize("anchors", ["none", "neighbourhood"])
def test_uce_solves_the_published_equation(anchors, targets):
    batches, config = (
        [make_batch(8 + i) for i in range(targets)],
        MethodConfig(anchors=anchors, identity_weight=0.5),
    )
    weight = torch.randn(6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    change = get_eraser("uce", "keys-values").solve({"k": weight}, batches, config)["k"]
    numerator, denominator = 0.5 * weight, 0.5 * torch.eye(5, dtype=torch.float64)
    pairs = [
        pair
        for batch in batches
        for pair in zip(batch.target.tokens[0], batch.replacement.tokens[0], strict=True)
    ]
    for c_e, c_a in pairs:
        numerator = numerator + torch.outer(weight @ c_a, c_e)
        denominator = denominator + torch.outer(c_e, c_e)
    kept = [c_p for batch in batches for c_p in batch.neighbours.tokens.flatten(0, 1)]
    for c_p in kept if anchors == "neighbourhood" else []:
        numerator = numerator + torch.outer(weight @ c_p, c_p)
        denominator = denominator + torch.outer(c_p, c_p)
    assert torch.allclose(weight + change, numerator @ torch.linalg.inv(denominator), rtol=1e-9, atol=1e-12)


def test_uce_keeps_its_anchors_better_than_without_them():
    batch = make_batch(9)
    weight = torch.randn(6, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def moved(anchors):
        change = get_eraser("uce", "keys-values").solve(
            {"k": weight}, [batch], MethodConfig(anchors=anchors)
        )["k"]
        return float((batch.neighbours.tokens.flatten(0, 1) @ change.T).norm())

    assert moved("neighbourhood") < moved("none")
