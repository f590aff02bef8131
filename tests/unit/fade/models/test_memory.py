"""One budget decides every batch; what cannot fit is refused with the numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fade.config import ModelConfig
from fade.errors import ConfigError
from fade.models import memory
from fade.models.batches import Batches
from fade.models.memory import (
    DTYPES,
    GB,
    HEADROOM,
    HEAP,
    PROCESS,
    budget_of,
    device_bytes,
    fit,
    halved,
    load_fitting,
    plan,
    require_dtype,
)
from tests.memory import FOOTPRINT, model_config


def test_a_large_budget_leaves_the_batches_as_they_are() -> None:
    assert plan(FOOTPRINT, model_config(1e7), "cpu").batches == Batches()


def test_the_batches_fit_the_room_and_twice_of_each_would_not() -> None:
    made = plan(FOOTPRINT, model_config(20), "cpu")
    assert made.resident == PROCESS + FOOTPRINT.weights + FOOTPRINT.text
    for rows, each in (
        (made.batches.sample, FOOTPRINT.sample),
        (made.batches.predict, FOOTPRINT.forward),
        (made.batches.decode, FOOTPRINT.decode),
        (made.batches.encode, FOOTPRINT.encode),
        (made.batches.prompts, FOOTPRINT.prompt),
    ):
        assert HEAP * rows * each <= made.room < 2 * HEAP * rows * each
    assert made.sampling(made.batches.sample) <= made.budget


def test_what_lies_beside_the_base_takes_its_share() -> None:
    alone, crowded = (
        plan(FOOTPRINT, model_config(20), "cpu"),
        plan(FOOTPRINT, model_config(20), "cpu", beside=int(8 * GB)),
    )
    assert crowded.batches.decode < alone.batches.decode
    assert crowded.batches.beside == 8 * GB


def test_large_text_encoders_wait_on_the_cpu_where_there_is_a_gpu() -> None:
    gpu, cpu = plan(FOOTPRINT, model_config(12), "cuda"), plan(FOOTPRINT, model_config(12), "cpu")
    assert (gpu.text_offloaded, cpu.text_offloaded) == (True, False)
    assert gpu.room == cpu.room + FOOTPRINT.text
    assert not plan(FOOTPRINT, model_config(100), "cuda").text_offloaded


def test_the_batches_are_halves_of_the_usual_ones() -> None:
    assert [halved(64, 10, room) for room in (641, 640, 639, 319, 160, 10, 1)] == [64, 64, 32, 16, 16, 1, 1]


@pytest.mark.parametrize(("dtype", "bf16_helps"), [("fp32", True), ("bf16", False)])
def test_what_cannot_fit_is_refused_with_the_numbers_and_the_next_action(
    dtype: str, bf16_helps: bool
) -> None:
    with pytest.raises(ConfigError) as refused:
        plan(FOOTPRINT, model_config(7, dtype=dtype), "cpu", name="data/large")
    assert "data/large needs about 7.9 GB (6.8 of them" in refused.value.what
    assert "7.0 GB of the device may be used" in refused.value.what
    assert ("model.dtype=bf16" in refused.value.action) == bf16_helps
    plan(FOOTPRINT, model_config(8), "cpu")  # the control


def test_without_a_limit_the_device_is_the_budget() -> None:
    total = device_bytes("cpu")
    assert budget_of(ModelConfig(), "cpu") == int(total * (1 - HEADROOM))
    assert budget_of(ModelConfig(memory_gb=1), "cpu") < budget_of(ModelConfig(), "cpu")


def test_a_precision_that_the_device_lacks_is_refused_by_name() -> None:
    for name, dtype in DTYPES.items():
        assert require_dtype(ModelConfig(dtype=name), "cpu") is dtype  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"model\.dtype = bf16, and Tesla T4 has no bfloat16"):
        require_dtype(ModelConfig(dtype="bf16"), "cuda", lambda device: "Tesla T4")
    assert require_dtype(ModelConfig(), "cuda", lambda device: "Tesla T4") is torch.float32


def test_the_miniatures_batches_are_those_of_before(tiny_base_dir: Path) -> None:
    """Also under a budget that would not hold it: a small base is not estimated."""
    base = load_fitting(str(tiny_base_dir), ModelConfig(memory_gb=0.1), device="cpu")
    assert (
        base.batches == Batches() == Batches(sample=1 << 20, predict=256, decode=64, encode=64, prompts=256)
    )
    assert base.text_device is None and base.dtype == torch.float32


def test_the_configured_precision_is_that_of_the_weights(tiny_base_dir: Path) -> None:
    base = load_fitting(str(tiny_base_dir), ModelConfig(dtype="bf16"), device="cpu")
    assert base.dtype == torch.bfloat16
    assert next(base.parts["text_encoder"].parameters()).dtype == torch.bfloat16
    assert next(base.vae.parameters()).dtype == torch.float32
    pixels = base.decode(torch.zeros(1, *base.latent_shape))
    assert pixels.shape == (1, 64, 64, 3)


def test_text_encoders_that_wait_elsewhere_encode_the_same(tiny_base_dir: Path) -> None:
    base = load_fitting(str(tiny_base_dir), ModelConfig(), device="cpu")
    before = base.encode(["a panda"]).tokens
    fit(base, plan(FOOTPRINT, model_config(12), "cuda"))
    assert base.text_device == torch.device("cpu") and base.batches.decode < 64
    with base.no_embeddings():
        assert torch.equal(base.encode(["a panda"]).tokens, before)


def test_a_budget_that_the_device_does_not_have_is_refused(
    tiny_base_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "SMALL", 0)
    monkeypatch.setattr(memory, "device_bytes", lambda device: 16 * GB)
    with pytest.raises(ConfigError, match=r"model\.memory_gb = 160, and the device has 16\.0 GB") as caught:
        load_fitting(str(tiny_base_dir), ModelConfig(memory_gb=160), device="cpu")
    assert "model.memory_gb=0" in caught.value.action
    load_fitting(str(tiny_base_dir), ModelConfig(memory_gb=16), device="cpu")
