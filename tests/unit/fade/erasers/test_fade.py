"""FADE's terms against a literal float64 implementation, one latent and one number at a time, and the way
each gradient pushes."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from fade.config import MethodConfig
from fade.erasers.base import ErasureBatch, get_eraser
from fade.models.conditioning import Conditioning

N_T, N_A, K = 3, 7, 3
SHAPE = (2, 3, 4)


class Toy:
    """A noise predictor in which every element depends on x, t and the prompt; the student is moved by
    ``shift``."""

    def __init__(self, shift: float = 0.3) -> None:
        self.shift = torch.tensor(shift, dtype=torch.float64, requires_grad=True)
        self.calls: list[tuple[str, int]] = []

    def teacher(self, x, t, cond):
        self.calls.append(("teacher", len(x)))
        return self._at(x, t, cond, torch.zeros((), dtype=torch.float64))

    def student(self, x, t, cond):
        self.calls.append(("student", len(x)))
        return self._at(x, t, cond, self.shift)

    def probe(self, x, t, cond):
        self.calls.append(("probe", len(x)))
        return self._at(x, t, cond, self.shift)

    @staticmethod
    def _at(x, t, cond, shift):
        a, b = cond.tokens.mean(dim=(1, 2)), cond.tokens[:, 0, 0]
        wave = torch.sin(t.double() + a)[:, None, None, None]
        return x * (b + shift)[:, None, None, None] + wave + shift * (x + b[:, None, None, None]) ** 2


def make_batch(seed=0, n_t=N_T, which=(0, 1, 2, 0, 1, 2, 0)):
    g = torch.Generator().manual_seed(seed)

    def r(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    def prompts(n):
        return Conditioning(r(n, 4, 5))

    t, t_adj = torch.randint(1000, (n_t,), generator=g), torch.randint(1000, (len(which),), generator=g)
    plain = (
        r(n_t, *SHAPE),
        t,
        r(len(which), *SHAPE),
        t_adj,
        prompts(1),
        prompts(1),
        prompts(K),
        torch.tensor(which),
        prompts(1),
    )
    extra = {"random": prompts(n_t), "language": prompts(6), "phrasings": plain[4].join(prompts(2))}
    extra |= {"words": prompts(n_t), "start": plain[4]}
    return ErasureBatch(*plain, extra)


def at(eps, who, x, t, tokens):
    """One latent, as nested lists of Python floats, under the token states (T, D) of one prompt."""
    out = (eps.student if who == "student" else eps.teacher)(x[None], t[None], Conditioning(tokens[None]))[0]
    return out.detach().tolist()


def flat(nested):
    return [v for plane in nested for row in plane for v in row]


def squared(a, b):
    """||a - b||^2, the mean over elements, in plain Python."""
    pairs = list(zip(flat(a), flat(b), strict=True))
    return math.fsum((u - v) ** 2 for u, v in pairs) / len(pairs)


def rows(a, b):
    """Unsquared L2 over the last axis, the mean over the rows."""
    pairs = [(u, v) for p, q in zip(a, b, strict=True) for u, v in zip(p, q, strict=True)]
    return math.fsum(
        math.sqrt(math.fsum((x - y) ** 2 for x, y in zip(u, v, strict=True))) for u, v in pairs
    ) / len(pairs)


def mean(values):
    values = list(values)
    return math.fsum(values) / len(values)


def literal_paper(eps, b, margin):
    e, null = b.target.tokens[0], b.null.tokens[0]
    anchor = [at(eps, "student", b.x[j], b.t[j], e) for j in range(len(b.x))]
    pull = mean(
        mean(
            squared(anchor[j], at(eps, "teacher", b.x[j], b.t[j], b.neighbours.tokens[i]))
            for j in range(len(b.x))
        )
        for i in range(K)
    )
    push = mean(squared(anchor[j], at(eps, "teacher", b.x[j], b.t[j], e)) for j in range(len(b.x)))
    guidance = mean(squared(anchor[j], at(eps, "teacher", b.x[j], b.t[j], null)) for j in range(len(b.x)))
    adjacency = mean(
        squared(
            at(eps, "student", b.x_adj[j], b.t_adj[j], b.neighbours.tokens[b.which[j]]),
            at(eps, "teacher", b.x_adj[j], b.t_adj[j], b.neighbours.tokens[b.which[j]]),
        )
        for j in range(len(b.x_adj))
    )
    return max(0.0, pull - push + margin), adjacency, guidance


def official_batch(seed=0, n=2):
    """n latents each of the target, of it in three other words, and of K neighbours, at one time."""
    plain, g = make_batch(seed), torch.Generator().manual_seed(100 + seed)
    x = torch.randn(n * (1 + 3 + K), *SHAPE, generator=g, dtype=torch.float64)
    words = Conditioning(torch.randn(3, 4, 5, generator=g, dtype=torch.float64))
    t = torch.full((len(x),), 321)
    return dataclasses.replace(plain, x=x, t=t, extra={**plain.extra, "templates": words})


def literal_official(eps, b, margin):
    """The description's own loops: distances in the hinge are of rows and unsquared, all else is squared."""
    n, t = len(b.x) // 7, b.t[0]
    e, null = b.target.tokens[0], b.null.tokens[0]
    pull = push = adjacency = guidance = 0.0
    for j in range(n):
        anchor = at(eps, "student", b.x[j], t, e)
        guidance += squared(anchor, at(eps, "teacher", b.x[j], t, null)) / n
        for k in range(3):
            x = b.x[(1 + k) * n + j]
            push += rows(anchor, at(eps, "teacher", x, t, b.extra["templates"].tokens[k])) / n
        for i in range(3):
            x, a = b.x[(4 + i) * n + j], b.neighbours.tokens[i]
            old = at(eps, "teacher", x, t, a)
            pull += rows(anchor, old) / n
            adjacency += squared(at(eps, "student", x, t, a), old) / n
    return max(0.0, pull - push + margin), adjacency, guidance


LITERAL = {
    "paper": (literal_paper, make_batch),
    "official": (literal_official, official_batch),
    "official-sampled": (literal_official, official_batch),
}
WEIGHTS = {"erase_weight": 1.7, "adjacency_weight": 0.6, "guidance_weight": 2.3}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("variant", LITERAL)
def test_each_term_and_the_sum_equal_the_literal_ones(variant, seed):
    literal, batch_of = LITERAL[variant]
    eps, batch = Toy(), batch_of(seed)
    config = MethodConfig(
        variant=variant, margin=60.0, **WEIGHTS
    )  # active: the hinge would hide its inside otherwise
    loss, terms = get_eraser("fade", variant).loss(eps, batch, config)
    erase, adjacency, guidance = literal(eps, batch, config.margin)
    assert erase > 0
    assert terms["erase"].item() == pytest.approx(erase, rel=1e-12)
    assert terms["adjacency"].item() == pytest.approx(adjacency, rel=1e-12)
    assert terms["guidance"].item() == pytest.approx(guidance, rel=1e-12)
    assert loss.item() == pytest.approx(1.7 * erase + 0.6 * adjacency + 2.3 * guidance, rel=1e-12)
    assert not any(term.requires_grad for term in terms.values())


def test_the_paper_form_costs_one_student_and_one_teacher_call():
    eps = Toy()
    get_eraser("fade", "paper").loss(eps, make_batch(), MethodConfig())
    assert eps.calls == [("student", N_T + N_A), ("teacher", N_T * (K + 2) + N_A)]


class Free:
    """A student whose output is the variable itself, so that its gradient shows where the loss wants it to
    go."""

    def __init__(self, batch, start):
        self.toy = Toy()
        n_t = len(batch.x)
        x, t = torch.cat([batch.x, batch.x_adj]), torch.cat([batch.t, batch.t_adj])
        cond = batch.target.expand(n_t).join(batch.neighbours[batch.which])
        self.old = self.toy.teacher(x, t, cond)
        self.out = (self.old + start).requires_grad_()

    def teacher(self, x, t, cond):
        return self.toy.teacher(x, t, cond)

    def student(self, x, t, cond):
        return self.out

    def gradient(self, batch, **weights):
        config = MethodConfig(**{"erase_weight": 0, "adjacency_weight": 0, "guidance_weight": 0, **weights})
        loss, _ = get_eraser("fade", "paper").loss(self, batch, config)
        return torch.autograd.grad(loss, self.out)[0]

    def prompts(self, batch, cond):
        return self.toy.teacher(batch.x, batch.t, cond.expand(len(batch.x)))


def apart(a, b):
    return ((a - b) ** 2).mean().item()


def test_erasing_pulls_the_target_to_its_neighbours_and_pushes_it_from_its_old_self():
    batch = make_batch(1)
    eps = Free(batch, 0.0)  # where training starts: the student is the teacher
    gradient = eps.gradient(batch, erase_weight=1, margin=50)
    moved = (eps.out - 0.01 * gradient)[:N_T]
    now, old = eps.out[:N_T], eps.old[:N_T]
    near = [eps.prompts(batch, batch.neighbours[i : i + 1]) for i in range(K)]
    assert mean(apart(moved, p) for p in near) < mean(apart(now, p) for p in near)
    assert apart(moved, old) > apart(now, old)
    assert not bool(gradient[N_T:].any()), "the erasing term must not touch the neighbours' latents"
    wanted = 2 * (old - torch.stack(near).mean(0)) / old.numel()
    assert torch.allclose(gradient[:N_T], wanted)


def test_all_neighbours_pull():
    batch = make_batch(2)
    one = dataclasses.replace(
        batch, neighbours=Conditioning(batch.neighbours.tokens * torch.tensor([1, 1, 2]).view(3, 1, 1))
    )
    before, after = (Free(b, 0.0).gradient(b, erase_weight=1, margin=50)[:N_T] for b in (batch, one))
    assert not torch.allclose(before, after)


def test_the_hinge_lets_go_at_the_margin():
    batch = make_batch(3)
    eps = Free(batch, 0.0)
    near = torch.stack([eps.prompts(batch, batch.neighbours[i : i + 1]) for i in range(K)]).mean(0)
    with torch.no_grad():
        eps.out[:N_T] = eps.old[:N_T] + 50 * (near - eps.old[:N_T])  # far beyond the neighbours
    assert not bool(eps.gradient(batch, erase_weight=1, margin=0.5).any())


def test_guidance_pulls_the_target_to_the_null_prompt():
    batch = make_batch(4)
    eps = Free(batch, 0.0)
    gradient = eps.gradient(batch, guidance_weight=1)
    null = eps.prompts(batch, batch.null)
    assert apart((eps.out - 0.01 * gradient)[:N_T], null) < apart(eps.out[:N_T], null)
    assert not bool(gradient[N_T:].any())


def test_adjacency_pulls_the_neighbours_back_and_is_silent_where_nothing_moved():
    batch = make_batch(5)
    assert not bool(Free(batch, 0.0).gradient(batch, adjacency_weight=1).any())
    eps = Free(
        batch, torch.randn(N_T + N_A, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    )
    gradient = eps.gradient(batch, adjacency_weight=1)
    assert apart((eps.out - 0.01 * gradient)[N_T:], eps.old[N_T:]) < apart(eps.out[N_T:], eps.old[N_T:])
    assert not bool(gradient[:N_T].any())


def test_the_released_form_costs_one_student_and_one_teacher_call():
    eps = Toy()
    get_eraser("fade", "official").loss(eps, official_batch(n=2), MethodConfig(variant="official"))
    assert eps.calls == [("student", 2 * (K + 1)), ("teacher", 2 * (K + 4))]


def test_released_distances_have_a_finite_gradient_where_nothing_moved():
    """With every latent and prompt the same, each distance of the first step is that of equal predictions."""
    eps, batch = Toy(0.0), official_batch(6)
    one = dataclasses.replace(batch.target, tokens=batch.target.tokens)
    batch = dataclasses.replace(
        batch,
        x=batch.x[:1].expand_as(batch.x),
        neighbours=one.expand(K),
        extra={"templates": one.expand(3)},
    )
    loss, terms = get_eraser("fade", "official").loss(eps, batch, MethodConfig(variant="official"))
    assert terms["erase"].item() == MethodConfig().margin and terms["adjacency"].item() == 0
    loss.backward()
    assert math.isfinite(eps.shift.grad.item())


def test_the_released_recipe_names_the_concepts_barely_and_shares_noise_and_time():
    for variant, by in (("official", "stored"), ("official-sampled", "student")):
        eraser = get_eraser("fade", variant)
        assert (eraser.prompt, eraser.latents.by, eraser.latents.prompts(5)) == ("{concept}", by, 9)
        assert (eraser.latents.guidance, eraser.latents.steps) == (3.0, 30)
