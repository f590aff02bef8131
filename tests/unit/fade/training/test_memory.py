"""A training step's memory: counted, divided without a change of the loss, or refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fade.adapters.lora import LoraAdapter
from fade.config import MeshConfig, MethodConfig, ModelConfig, TrainConfig
from fade.erasers.base import get_eraser, known_erasers
from fade.errors import ConfigError
from fade.models.base import DiffusionModel
from fade.models.conditioning import Conditioning
from fade.models.footprint import Footprint, empty_model
from fade.models.loading import load_model
from fade.models.memory import GB, HEAP, Plan, plan
from fade.training.denoiser import Denoiser
from fade.training.memory import (
    Activations,
    StepFootprint,
    StepPlan,
    latents_of,
    plan_step,
    plan_training,
)
from tests.memory import FOOTPRINT, model_config
from tests.support import DEEP, make_tiny_base

PAPER = MethodConfig(name="fade", variant="paper")
TRAIN = TrainConfig(batch_target=2, batch_neighbours=10)
NEED = StepFootprint(
    student=12,
    teacher=24,
    adapter=0,
    whole=Activations(kept=int(2 * GB), peak=int(2 * GB)),
    recomputed=Activations(kept=int(0.25 * GB), peak=int(0.5 * GB)),
)
BASE = replace(FOOTPRINT, text=0)


def base_plan(gb: float, device: str = "cuda") -> Plan:
    return plan(BASE, model_config(gb), device)


def step(gb: float, *, processes: int = 1, **changes: object) -> StepPlan:
    return plan_step(NEED, base_plan(gb), model_config(gb, **changes), processes=processes)


@pytest.mark.parametrize(
    ("name", "variant", "anchors", "student", "teacher"),
    [
        ("fade", "paper", "none", 2 + 10, 2 * 7 + 10),
        ("fade", "official", "none", 2 * (1 + 5), 2 * (1 + 3 + 5)),
        ("esd", "x-2025", "none", 2, 2 * 2),
        ("ablation", "broader", "none", 2 * 2, 0),
        ("nullspace", "hinge", "none", 2, 2 * 7),
        ("esd", "x", "neighbourhood", 2 + 10, 10),
        (
            "adversarial",
            "embedding",
            "none",
            3 * 2 + 2 * 10,
            2 * 2 + 2 * 10,
        ),
        ("uce", "keys-values", "none", 0, 0),
    ],
)
def test_the_latents_of_a_step_are_counted_by_the_loss_itself(
    name: str, variant: str, anchors: str, student: int, teacher: int
) -> None:
    method = MethodConfig.model_validate({"name": name, "variant": variant, "anchors": anchors})
    assert latents_of(method, TRAIN, k=5) == (student, teacher)


def test_every_method_can_be_counted() -> None:
    for name, variants in known_erasers().items():
        for variant in variants:
            n, _ = latents_of(MethodConfig(name=name, variant=variant), TRAIN, k=5)
            assert n >= 2 or get_eraser(name, variant).solve, (name, variant)


def test_a_step_is_counted_on_shapes_and_checkpointing_keeps_less(tmp_path: Path) -> None:
    folder = make_tiny_base(tmp_path / "base", **DEEP, sample_size=32)
    made = StepFootprint.of(empty_model(folder, torch.float32), MeshConfig(), PAPER, TRAIN, 5)
    forward = Footprint.of(empty_model(folder, torch.float32)).forward
    assert made.recomputed.kept < made.whole.kept and made.recomputed.peak < made.whole.peak
    assert made.whole.kept > 2 * forward  # the activations of every layer at once
    narrow = MethodConfig(name="nullspace", variant="hinge")
    fixed = StepFootprint.of(
        empty_model(folder, torch.float32), MeshConfig(targets=("text",)), narrow, TRAIN, 5
    )
    assert fixed.adapter < made.adapter and fixed.whole.kept < made.whole.kept


def test_the_first_way_that_fits_is_taken() -> None:
    assert step(40) == StepPlan(step(40).bytes, None, None, checkpointing=False)
    assert (step(30).student, step(30).teacher) == (None, 3)  # the teacher is divided before the student
    divided = step(16)
    assert divided.student == 3 and not divided.checkpointing
    least = step(6.4)
    assert (least.checkpointing, least.student, least.teacher) == (True, 3, 4)
    for gb in (40, 30, 16, 6.4):
        assert 0 < step(gb).bytes <= gb * GB


def test_the_cpus_heap_needs_more_than_the_tensors() -> None:
    gpu, cpu = (plan_step(NEED, base_plan(60, one), model_config(60)).bytes for one in ("cuda", "cpu"))
    assert cpu - base_plan(60, "cpu").resident == pytest.approx(HEAP * (gpu - base_plan(60).resident))


def test_gradient_checkpointing_is_as_configured() -> None:
    assert step(40, gradient_checkpointing="always").checkpointing
    with pytest.raises(ConfigError, match="may be used"):
        step(16, gradient_checkpointing="never")
    assert step(16, gradient_checkpointing="always").bytes <= 16 * GB


def test_with_several_processes_the_student_is_not_divided() -> None:
    assert step(16, processes=2) == StepPlan(step(16, processes=2).bytes, None, None, checkpointing=True)
    with pytest.raises(ConfigError, match="train.processes=1") as refused:
        plan_step(NEED, base_plan(6.4), model_config(6.4), processes=2)
    assert "train.processes=1" in refused.value.action


def test_a_step_that_cannot_fit_is_refused_with_the_numbers_and_the_next_action() -> None:
    with pytest.raises(ConfigError) as refused:
        plan_step(
            NEED, base_plan(16), model_config(16, gradient_checkpointing="never"), name="one step of fade"
        )
    assert (
        "one step of fade needs 29.0 GB at least (12 latents with gradients of 2.0 GB" in refused.value.what
        and "16.0 GB" in refused.value.what
    )
    for way in ("train.batch_target", "model.dtype=bf16", "model.gradient_checkpointing=auto"):
        assert way in refused.value.action


def test_the_whole_plan_comes_from_configurations_alone(tmp_path: Path) -> None:
    twin = empty_model(make_tiny_base(tmp_path / "base", **DEEP), torch.float32)
    base, made = plan_training(twin, ModelConfig(memory_gb=10), "cpu", MeshConfig(), PAPER, TRAIN, 5)
    assert base.resident < made.bytes < base.budget and made.student is None


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> DiffusionModel:
    return load_model(str(make_tiny_base(tmp_path_factory.mktemp("base"), **DEEP)), device="cpu")


def gradients(base: DiffusionModel, how: StepPlan) -> list[torch.Tensor]:
    """Of one loss that is no mean over the batch, through a divided or checkpointed step."""
    generator = torch.Generator().manual_seed(0)
    lora = LoraAdapter.insert(base, MeshConfig(), seed=0)
    with torch.no_grad():
        for parameter in lora.parameters():  # up projections of zero would hide the down projections'
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    if how.checkpointing:
        base.denoiser.enable_gradient_checkpointing()
    try:
        x, t = torch.randn(5, *base.latent_shape, generator=generator), torch.arange(5) * 100
        cond: Conditioning = base.encode(["a panda"]).expand(5)
        eps = Denoiser(base.denoiser, lora, how)
        apart = (eps.student(x, t, cond) - eps.teacher(x, t, cond)).square().mean()
        (apart - 1e-4).clamp_min(0).backward()
        assert float(apart.detach()) > 1e-4
        return [parameter.grad.clone() for parameter in lora.parameters() if parameter.grad is not None]
    finally:
        base.denoiser.disable_gradient_checkpointing()
        lora.remove()


@pytest.mark.parametrize(
    "how",
    [
        StepPlan(checkpointing=True),
        StepPlan(teacher=2),
        StepPlan(student=2, teacher=3),
        StepPlan(student=1, checkpointing=True),
    ],
)
def test_a_divided_step_has_the_gradients_of_the_whole_one(loaded: DiffusionModel, how: StepPlan) -> None:
    whole, divided = gradients(loaded, StepPlan()), gradients(loaded, how)
    norm = torch.cat([one.flatten() for one in whole]).norm()
    apart = torch.cat([(a - b).flatten() for a, b in zip(whole, divided, strict=True)]).norm()
    assert float(norm) > 0 and float(apart / norm) < 1e-4


def test_an_adapter_of_a_base_in_half_precision_is_not_merged(tiny_base_dir: Path) -> None:
    for dtype, merged in ((torch.float32, True), (torch.bfloat16, False)):
        base = load_model(str(tiny_base_dir), device="cpu", dtype=dtype)
        lora = LoraAdapter.insert(base, MeshConfig(), seed=0)
        with torch.no_grad():
            for name, parameter in lora.named_parameters().items():
                parameter.fill_(0.05 if "lora_B" in name else 0.1)
        x, t, cond = base.example(torch.Generator().manual_seed(0))
        with torch.no_grad():
            lora.merge()
            assert lora.merged == merged
            erased = base.predict(x, t, cond)
            with lora.off():
                assert not torch.equal(base.predict(x, t, cond), erased)
