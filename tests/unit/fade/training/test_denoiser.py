"""What the losses get of a prediction: the network's own output, or the noise in x_t according to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fade.adapters.lora import LoraAdapter
from fade.config import MeshConfig
from fade.models.base import DiffusionModel
from fade.models.conditioning import Conditioning
from fade.models.loading import load_model
from fade.training.denoiser import Denoiser
from fade.training.memory import StepPlan

FAMILIES = {"sd1": "noise", "zero-snr": "v", "sd3": "velocity"}
PURE_NOISE = {"zero-snr": 999, "sd3": 1000.0}
"""The times at which the factor of a prediction is 0."""


def opened(model: DiffusionModel) -> tuple[LoraAdapter, Tensor, Conditioning]:
    """An adapter with an effect, latents (3, C, h, w) and as many prompts."""
    generator = torch.Generator().manual_seed(0)
    lora = LoraAdapter.insert(model, MeshConfig(), seed=0)
    with torch.no_grad():
        for parameter in lora.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    x = torch.randn(3, *model.latent_shape, generator=generator)
    return lora, x, model.encode(["a panda"]).expand(3)


@pytest.mark.parametrize("plan", [StepPlan(), StepPlan(student=2, teacher=1)])
@pytest.mark.parametrize("name", FAMILIES)
def test_in_noise_both_predictions_are_the_noise_according_to_the_network(
    name: str, plan: StepPlan, family_dir: Callable[[str], Path]
) -> None:
    model = load_model(str(family_dir(name)), device="cpu")
    lora, x, cond = opened(model)
    try:
        t = model.times_at(torch.tensor([0.1, 0.5, 0.9]))
        own, noise = (Denoiser(model.denoiser, lora, plan, in_noise=space) for space in (False, True))
        for one, other in ((own.student, noise.student), (own.teacher, noise.teacher)):
            assert torch.equal(model.to_noise(one(x, t, cond), x, t), other(x, t, cond))
            assert torch.equal(one(x, t, cond), other(x, t, cond)) == (FAMILIES[name] == "noise")
        assert not torch.equal(noise.student(x, t, cond), noise.teacher(x, t, cond))
    finally:
        lora.remove()


@pytest.mark.parametrize("name", PURE_NOISE)
def test_at_pure_noise_a_loss_in_noise_and_its_gradients_are_zero_and_finite(
    name: str, family_dir: Callable[[str], Path]
) -> None:
    model = load_model(str(family_dir(name)), device="cpu")
    lora, x, cond = opened(model)
    try:
        t = torch.full((len(x),), PURE_NOISE[name])
        eps, own = Denoiser(model.denoiser, lora, in_noise=True), Denoiser(model.denoiser, lora)
        apart = (eps.student(x, t, cond) - eps.teacher(x, t, cond)).square().mean()
        apart.backward()
        assert torch.equal(eps.teacher(x, t, cond), x) and float(apart.detach()) == 0
        assert not torch.equal(own.student(x, t, cond), own.teacher(x, t, cond))  # the control
        gradients = [parameter.grad for parameter in lora.parameters()]
        assert gradients and all(one is not None and not one.any() for one in gradients)
    finally:
        lora.remove()


@pytest.mark.parametrize("plan", [StepPlan(), StepPlan(student=2, teacher=1)])
def test_a_search_sees_the_adapted_model_and_gives_gradients_to_its_prompts_alone(
    plan: StepPlan, family_dir: Callable[[str], Path]
) -> None:
    model = load_model(str(family_dir("sd1")), device="cpu")
    lora, x, cond = opened(model)

    class Wrapped:
        """What accelerate makes of a denoiser in several processes: one pass a step."""

        def __call__(self, *args: object, **kwargs: object) -> None:
            raise AssertionError("the search went through the process group's network")

    try:
        t = model.times_at(torch.tensor([0.1, 0.5, 0.9]))
        eps, wrapped = Denoiser(model.denoiser, lora, plan), Denoiser(Wrapped(), lora, plan)
        tokens = cond.tokens[:1].detach().clone().requires_grad_(True)
        out = wrapped.probe(x, t, cond.with_tokens(tokens.expand(3, -1, -1)))
        assert torch.allclose(out, eps.student(x, t, cond)) and not torch.allclose(
            out, eps.teacher(x, t, cond)
        )
        (gradient,) = torch.autograd.grad(out.square().sum(), [tokens])
        assert gradient.abs().max() > 0
        assert all(parameter.grad is None for parameter in lora.parameters())
    finally:
        lora.remove()
