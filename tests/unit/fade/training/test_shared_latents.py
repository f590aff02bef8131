"""Latents that share noise and time: stored pictures under one noise, partial trajectories step by step."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from fade.erasers.base import SharedLatents, get_eraser
from fade.jobs.train import TrainJob
from fade.models.loading import load_model
from fade.training.batches import BatchSampler, read_latents
from fade.training.shared_latents import noised_pictures, partial_trajectories, sampler_of
from fade.utils.hashing import sha256_of
from tests.support import make_latents, make_tiny_base

NEIGHBOURS = ("koala", "bear", "tiger", "lion", "cat")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return load_model(str(make_tiny_base(tmp_path_factory.mktemp("base"))), device="cpu")


@pytest.fixture
def batch_of(base, tmp_path):
    def make(name, variant, step=0, family="cat faces"):
        latents = make_latents(tmp_path / "latents.safetensors")
        job = TrainJob.model_validate(
            {
                "base": base.path,
                "base_sha256": base.sha256,
                "subjects": [{"target": "panda", "neighbours": NEIGHBOURS, "family": family}],
                "prompt": "a {concept}",
                "latents": latents,
                "latents_sha256": sha256_of(latents),
                "method": {"name": name, "variant": variant},
                "train": {"batch_target": 2, "batch_neighbours": 5},
                "out": tmp_path / "out",
            }
        )
        return BatchSampler(job, base, read_latents(job)).batch(step)

    return make


def test_stored_pictures_of_all_nine_prompts_share_noise_and_time(base):
    """With clean latents of zeros what is left is the noise, by picture the same for each prompt."""
    shared = get_eraser("fade", "official").latents
    target, neighbours = torch.zeros(3, 4, 8, 8), torch.zeros(5, 2, 4, 8, 8)
    x, t = noised_pictures(base, shared, target, neighbours, 2, torch.Generator().manual_seed(0))
    assert x.shape == (9 * 2, 4, 8, 8) and len(set(t.tolist())) == 1
    noise = x.unflatten(0, (9, 2))
    assert all(torch.equal(noise[0], one) for one in noise) and not torch.equal(noise[0, 0], noise[0, 1])


def test_each_stored_latent_is_of_what_its_prompt_names(base):
    """Clean latents that are told apart by their value: the target's 0 to 2, neighbour i's 10 (i + 1)."""
    shared = get_eraser("fade", "official").latents
    target = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 4, 8, 8)
    neighbours = (10 * torch.arange(1.0, 6)).view(5, 1, 1, 1, 1).expand(5, 2, 4, 8, 8)
    given = (base, shared, target, neighbours, 2)
    x, t = noised_pictures(*given, torch.Generator().manual_seed(1))
    kept = base.scheduler.alphas_cumprod[t[0]]
    noise = (x[-2:] - kept.sqrt() * 50) / (1 - kept).sqrt()  # of the last neighbour's two
    clean = (x - (1 - kept).sqrt() * noise.repeat(9, 1, 1, 1)) / kept.sqrt()
    values = clean.mean((1, 2, 3)).tolist()
    assert all(min(abs(v - one) for one in range(3)) < 1e-2 for v in values[:8])
    assert values[8:] == pytest.approx([v for i in range(1, 6) for v in (10 * i, 10 * i)], abs=1e-2)


def test_a_partial_trajectory_is_the_sampler_step_by_step(base):
    shared, prompts = SharedLatents("student", steps=4), base.encode(["a panda", "a cat"])
    null, generator = base.encode([""]), torch.Generator().manual_seed(5)
    x, t = partial_trajectories(base, shared, prompts, null, 2, torch.Generator().manual_seed(5))
    stop = int(torch.randint(1, 4, (1,), generator=generator))
    start = torch.randn((2, *base.latent_shape), generator=generator)
    solver = base.solver(sampler_of(base, 4))
    assert 1 <= stop <= 3 and t.tolist() == [int(solver.timesteps[stop])] * 4
    for row, prompt in enumerate(prompts.tokens.repeat_interleave(2, 0)):
        z, cond = start[row % 2][None], prompts[:1].with_tokens(prompt[None])
        for time in solver.timesteps[:stop]:
            with torch.no_grad():
                u, c = (base.predict(z, time[None], one) for one in (null, cond))
            z = solver.step(u + 3.0 * (c - u), time, z, return_dict=False)[0]
        assert torch.allclose(x[row : row + 1], z, atol=1e-4)
    assert not x.requires_grad


@pytest.mark.parametrize(("by", "entered"), [("original", 1), ("student", 0)])
def test_the_original_model_walks_without_the_adapter(base, by, entered):
    times = []

    @contextmanager
    def original():
        times.append(by)
        yield

    prompts, null = base.encode(["a panda"]), base.encode([""])
    shared = SharedLatents(by, steps=2)
    partial_trajectories(base, shared, prompts, null, 1, torch.Generator().manual_seed(0), original)
    assert len(times) == entered


def test_a_device_that_holds_few_latents_walks_in_parts(base, monkeypatch):
    shared, prompts = SharedLatents("student", steps=3), base.encode(["a panda", "a cat"])
    given = (base, shared, prompts, base.encode([""]), 2)
    whole, _ = partial_trajectories(*given, torch.Generator().manual_seed(0))
    monkeypatch.setattr(base, "batches", replace(base.batches, sample=3))
    parts, t = partial_trajectories(*given, torch.Generator().manual_seed(0))
    assert torch.allclose(whole, parts, atol=1e-5) and len(t) == 4


def test_a_batch_of_the_released_recipe_has_bare_names_and_nine_prompts(base, batch_of):
    batch = batch_of("fade", "official")
    assert batch.x.shape[0] == batch.t.shape[0] == 18
    assert torch.equal(batch.target.tokens, base.encode(["panda"]).tokens)
    assert torch.equal(batch.neighbours.tokens, base.encode(list(NEIGHBOURS)).tokens)
    words = [one.format(concept="panda") for one in get_eraser("fade", "official").latents.templates]
    assert torch.equal(batch.extra["templates"].tokens, base.encode(words).tokens)


def test_the_broader_concept_gives_the_anchor_and_without_one_the_null_prompt_does(base, batch_of):
    batch = batch_of("ablation", "broader")
    assert torch.equal(batch.extra["anchor"].tokens, base.encode(["a cat faces"]).tokens)
    assert len(batch.x) == 2 and len(set(batch.t.tolist())) == 1
    none = batch_of("ablation", "broader", family="")
    assert torch.equal(none.extra["anchor"].tokens, base.encode([""]).tokens)


def test_the_step_decides_the_trajectory(batch_of):
    first, other = (batch_of("esd", "x-2025", step) for step in (0, 1))
    assert torch.equal(first.x, batch_of("esd", "x-2025", 0).x) and not torch.equal(first.x, other.x)
    assert torch.equal(first.x_adj, batch_of("esd", "x", 0).x_adj)  # the anchors' latents stay what they are
