"""Sampling from an embedding is sampling from its prompt; from a picture it starts later; and every UNet call
is counted."""

from __future__ import annotations

import pytest
import torch

from fade.config import SamplerConfig
from fade.evaluation.attacks import AttackContext
from fade.evaluation.attacks.denoising import CallBudget, add_noise, errors, sample_from
from fade.models.sampling import sample


@pytest.mark.parametrize("scheduler", ["ddim", "euler", "euler_ancestral", "dpmpp_2m", "unipc"])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_an_embedding_gives_what_its_prompt_gives(
    subject: AttackContext, scheduler: str, guidance: float
) -> None:
    sampler = SamplerConfig(scheduler=scheduler, steps=3, batch_size=2, guidance_scale=guidance)  # type: ignore[arg-type]
    wanted = sample(subject.base, ["a panda"] * 3, [1, 2, 3], sampler)
    assert torch.equal(
        sample_from(subject.base, subject.base.encode(["a panda"]), [1, 2, 3], sampler), wanted
    )


@pytest.mark.parametrize("scheduler", ["ddim", "euler", "euler_ancestral", "dpmpp_2m", "unipc"])
@pytest.mark.parametrize(("time", "steps"), [(0.2, 0), (0.25, 1), (0.5, 2), (1.0, 4)])
def test_a_noised_picture_takes_the_steps_that_are_left(
    subject: AttackContext, scheduler: str, time: float, steps: int
) -> None:
    sampler = SamplerConfig(scheduler=scheduler, steps=4, guidance_scale=3.0)  # type: ignore[arg-type]
    with CallBudget(subject.base) as meter:
        out = sample_from(
            subject.base,
            subject.base.encode(["a panda"]),
            [1, 2],
            sampler,
            clean=subject.pictures[:2],
            time=time,
        )
    assert meter.calls == 2 * 2 * steps
    assert torch.equal(out, subject.pictures[:2].cpu()) == (steps == 0) and bool(torch.isfinite(out).all())


def test_a_picture_is_noised_as_the_schedule_says(subject: AttackContext) -> None:
    """With a model that predicts the very noise that was added, DDIM's one step gives the picture back."""
    clean = subject.pictures[:2]
    sampler = SamplerConfig(scheduler="ddim", steps=4, guidance_scale=1.0)
    noise = torch.stack(
        [torch.randn(clean.shape[1:], generator=torch.Generator().manual_seed(s)) for s in (1, 2)]
    )
    seen = []

    def knowing(x: torch.Tensor, t: torch.Tensor, *prompts: object) -> torch.Tensor:
        seen.append((x, t))
        return noise

    subject.base.predict_guided = knowing  # type: ignore[method-assign]
    sample_from(subject.base, subject.base.encode(["a panda"]), [1, 2], sampler, clean=clean, time=0.25)
    ((x, t),) = seen
    assert t.tolist() == [249, 249]
    assert torch.allclose(x, subject.base.add_noise(clean, noise, t), atol=1e-6)


def test_the_meter_counts_a_backward_twice_and_only_while_open(subject: AttackContext) -> None:
    base, cond = subject.base, subject.base.encode(["a panda"])
    noisy = add_noise(base, subject.pictures, 5, torch.Generator().manual_seed(0))
    with CallBudget(base) as meter:
        with torch.no_grad():
            errors(base, noisy, cond)
        errors(base, noisy, cond.map(lambda one: one.requires_grad_(True)))
    errors(base, noisy, cond)
    assert meter.calls == 5 + 3 * 5


def test_times_are_spread_over_the_schedule_and_seeded(subject: AttackContext) -> None:
    one, two, other = (
        add_noise(subject.base, subject.pictures, 10, torch.Generator().manual_seed(s)) for s in (0, 0, 1)
    )
    assert (one.t // 100).tolist() == list(range(10))
    assert torch.equal(one.x, two.x) and not torch.equal(one.x, other.x)
    assert torch.allclose(one.x, subject.base.add_noise(subject.pictures[one.which], one.goal, one.t))
