"""The bytes that a step of an attack needs, counted on shapes, are those that it takes; it is divided to fit,
or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fade.config import AttackConfig, ModelConfig, SamplerConfig
from fade.errors import ConfigError
from fade.evaluation.attacks import AttackContext, get_attack
from fade.evaluation.attacks.denoising import add_noise, fit
from fade.evaluation.attacks.relearning import attention, temporarily_trainable
from fade.jobs.attack_memory import footprints_of, plan_attacks, plans_for
from fade.models.base import DiffusionModel
from fade.models.footprint import Footprint, LiveBytes, empty_model, weight_bytes, weightless
from fade.models.loading import load_model
from fade.models.memory import GB, HEADROOM, HEAP, Plan, plan
from fade.training.memory import STATES, StepFootprint
from tests.support import DEEP, make_tiny_base

CONFIG = AttackConfig(batch=4)
TOLERANCE = 0.15
"""bench/memory.py's."""


def config(gb: float, **changes: object) -> ModelConfig:
    return ModelConfig.model_validate({"memory_gb": gb / (1 - HEADROOM), **changes})


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> DiffusionModel:
    """Large enough that a layer's activations are most of what a step takes."""
    wide: dict[str, Any] = {**DEEP, "block_out_channels": (32, 64), "attention_head_dim": 8}
    folder = make_tiny_base(tmp_path_factory.mktemp("base"), sample_size=16, **wide)
    return load_model(str(folder), device="cpu")


@pytest.fixture(scope="module")
def needs(base: DiffusionModel) -> dict[str, StepFootprint]:
    return footprints_of(weightless(base), CONFIG)


def taken(base: DiffusionModel, name: str, at_once: int | None, checkpointing: bool) -> int:
    """The most bytes alive in two real steps on the CPU, beside the weights."""
    subject = AttackContext(
        base,
        None,
        SamplerConfig(),
        CONFIG,
        None,
        "panda",
        at_once,
        checkpointing,  # type: ignore[arg-type]
    )
    prompt, clean = base.encode(["a panda"]), torch.zeros(2, *base.latent_shape)
    generator = torch.Generator().manual_seed(0)

    def noisy() -> Any:
        return add_noise(base, clean, CONFIG.batch, generator)

    with LiveBytes() as counted:
        if name == "inversion":
            e = prompt.tokens.clone().requires_grad_(True)
            fit(subject, [e], noisy, lambda part: prompt.with_tokens(e), 2, 0.1)
        else:
            with temporarily_trainable(attention(base.denoiser)) as weights:
                fit(subject, weights, noisy, lambda part: prompt.expand(len(part.x)), 2, 0.1)
    return counted.peak


@pytest.mark.parametrize("name", ["inversion", "revival"])
@pytest.mark.parametrize(("at_once", "checkpointing"), [(None, False), (1, False), (2, True)])
def test_the_estimate_is_what_a_real_step_takes(
    base: DiffusionModel, needs: dict[str, StepFootprint], name: str, at_once: int | None, checkpointing: bool
) -> None:
    need = needs[name]
    each = need.recomputed if checkpointing else need.whole
    estimate = need.adapter + (at_once or CONFIG.batch) * each.peak
    assert estimate == pytest.approx(taken(base, name, at_once, checkpointing), rel=TOLERANCE)


def test_attacks_without_gradients_are_not_counted_and_the_model_is_as_it_was(tmp_path: Path) -> None:
    empty = empty_model(make_tiny_base(tmp_path / "base", **DEEP), torch.float32)
    needs = footprints_of(empty, CONFIG)
    assert list(needs) == ["inversion", "revival"]
    assert all(one.grad is None and not one.requires_grad for one in empty.denoiser.parameters())
    assert not empty.denoiser.is_gradient_checkpointing
    weights = sum(one.nbytes for one in attention(empty.denoiser))
    assert needs["revival"].adapter == STATES * weights > needs["inversion"].adapter > 0
    assert weights < weight_bytes(empty.denoiser)
    only = CONFIG.model_copy(update={"names": ("noised", "tokens")})
    assert footprints_of(empty, only) == {} and get_attack("noised").trained is None


def fitting(gb: float, needs: dict[str, StepFootprint], device: str = "cuda", **changes: object) -> Any:
    """The plans of 1 GB of weights with ``gb`` to plan with."""
    return plan_attacks(needs, base_plan(gb, device), CONFIG, config(gb, **changes))


def base_plan(gb: float, device: str = "cuda") -> Plan:
    least = dict.fromkeys(("prompt", "forward", "sample", "decode", "encode"), 1)
    return plan(Footprint(weights=int(GB), text=0, **least), config(gb), device)


def scaled(needs: dict[str, StepFootprint], times: int) -> dict[str, StepFootprint]:
    """As of a model that is so many times larger."""

    def larger(one: Any) -> Any:
        return type(one)(one.kept * times, one.peak * times)

    return {
        name: StepFootprint(one.student, 0, one.adapter * times, larger(one.whole), larger(one.recomputed))
        for name, one in needs.items()
    }


def test_a_step_is_divided_until_it_fits_and_the_batch_stays(needs: dict[str, StepFootprint]) -> None:
    large = scaled(needs, 100)
    need = large["revival"]
    resident = base_plan(100).resident

    def room(latents: int) -> float:
        return (resident + need.adapter + latents * need.whole.peak) / GB

    for latents, student in ((4, None), (3, 2), (2, 2), (1, 1)):
        made = fitting(room(latents) + 0.001, large, gradient_checkpointing="never")["revival"]
        assert (made.student, made.checkpointing) == (student, False)
        assert made.bytes <= (room(latents) + 0.001) * GB
    less = (resident + need.adapter + need.recomputed.peak) / GB + 0.001
    assert fitting(less, large)["revival"].checkpointing
    on_cpu = fitting(room(8), large, "cpu")["revival"]
    assert on_cpu.bytes - base_plan(room(8), "cpu").resident == pytest.approx(
        HEAP * (need.adapter + 4 * need.whole.peak), rel=0.01
    )


def test_what_cannot_fit_is_refused_with_the_numbers_and_the_attacks_that_do(
    needs: dict[str, StepFootprint],
) -> None:
    large = scaled(needs, 1000)
    inversion = large["inversion"]
    gb = (base_plan(100).resident + inversion.adapter + inversion.whole.peak) / GB + 0.001
    with pytest.raises(ConfigError) as refused:
        fitting(gb, large, gradient_checkpointing="never")
    assert refused.value.what.startswith("a step of the attack revival needs")
    assert f"{large['revival'].adapter / GB:.1f} GB for what is trained" in refused.value.what
    assert f"{gb:.1f} GB of the device may be used" in refused.value.what
    for way in (
        "attack.names=[inversion, tokens, noised]",
        "model.dtype=bf16",
        "model.gradient_checkpointing=auto",
    ):
        assert way in refused.value.action
    assert fitting(gb, {"inversion": inversion})["inversion"].student == 1  # the control


def test_a_small_base_is_not_estimated(base: DiffusionModel) -> None:
    assert plans_for(base, CONFIG, config(0.1)) == {}
