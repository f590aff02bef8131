"""The line on memory before a run, and the refusal in its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from fade.errors import ConfigError
from fade.models import memory
from fade.run.context import RunContext
from fade.run.memory import memory_sentence
from fade.run.resolve_params import parse_params
from tests.support import make_tiny_base


def run(root: Path, **model: object) -> RunContext:
    settings = {"model": model, "method": {"name": "fade", "variant": "paper"}}
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
