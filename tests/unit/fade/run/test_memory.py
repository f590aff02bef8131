"""The line on memory before a run, and the refusal in its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from fade.config import AttackConfig, ModelConfig
from fade.errors import ConfigError
from fade.jobs.attack_memory import footprints_of
from fade.models import memory
from fade.models.footprint import Footprint, empty_model
from fade.run.context import RunContext
from fade.run.memory import memory_sentence
from fade.run.resolve_params import parse_params
from tests.support import DEEP, make_tiny_base


def run(root: Path, method: tuple[str, str] = ("fade", "paper"), **model: object) -> RunContext:
    settings = {"model": model, "method": {"name": method[0], "variant": method[1]}}
    return RunContext(parse_params(settings), "panda", root / "runs", root)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_tiny_base(tmp_path / "data" / "base")
    return tmp_path


def make_large(root: Path) -> None:
    """As many bytes on the disk as a large base has, but none of them written."""
    with (root / "data" / "base" / "unet" / "twin.safetensors").open("wb") as stream:
        stream.truncate(memory.SMALL)


def test_the_miniature_is_not_estimated(root: Path) -> None:
    assert memory_sentence(run(root, memory_gb=0.1)) == ""


def test_a_large_base_is_estimated_in_one_line(root: Path) -> None:
    make_large(root)
    line = memory_sentence(run(root, memory_gb=10))
    assert line.startswith("memory: about 0.8 of 9.0 GB (")
    assert line.endswith("; sampling 32 pictures at once")


def test_a_base_that_cannot_fit_is_refused_with_the_numbers(root: Path) -> None:
    make_large(root)
    with pytest.raises(ConfigError, match=r"needs about 0\.8 GB .* 0\.1 GB of the device may be used"):
        memory_sentence(run(root, memory_gb=0.1))


def test_where_another_machine_trains_the_step_is_not_planned_here(root: Path) -> None:
    make_large(root)
    there = run(root, memory_gb=10).params.model_dump(mode="json", by_alias=True)
    there["schedule"]["train_deployment"] = "run-job/gpu"
    line = memory_sentence(RunContext(parse_params(there), "panda", root / "runs", root))
    assert "(sampling)" in line


def test_a_base_that_is_not_there_yet_is_passed_over(tmp_path: Path) -> None:
    assert memory_sentence(run(tmp_path)) == ""


def test_an_attack_that_cannot_fit_is_refused_before_the_training_where_attacks_are_run(
    tmp_path: Path,
) -> None:
    wide = {**DEEP, "block_out_channels": (64, 128), "attention_head_dim": 16}
    empty = empty_model(make_tiny_base(tmp_path / "data" / "base", **wide), memory.DTYPES["fp32"])
    make_large(tmp_path)
    resident = memory.plan(Footprint.of(empty), ModelConfig(), "cpu").resident
    # room for the attention's gradients, moments and copies, but for no latent beside them
    least = resident + footprints_of(empty, AttackConfig())["revival"].adapter
    closed_form = ("uce", "keys-values")  # without a step of its own
    tight = run(tmp_path, closed_form, memory_gb=least / memory.GB / (1 - memory.HEADROOM))
    assert "sampling" in memory_sentence(tight)
    with pytest.raises(ConfigError, match="a step of the attack revival needs") as refused:
        memory_sentence(tight, attacks=True)
    assert "attack.names=[inversion, tokens, noised]" in refused.value.action
