"""`fade generate`: what it refuses to draw."""

from __future__ import annotations

from pathlib import Path

import pytest

from fade.config import Params
from fade.errors import BaseModelError, UsageError
from fade.run.context import RunContext
from tasks.stages.generate import generate


@pytest.fixture
def run(tiny_base_dir: Path, tmp_path: Path) -> RunContext:
    params = {"data": {"base": str(tiny_base_dir)}, "sampler": {"steps": 2}}
    return RunContext(Params.model_validate(params), "", tmp_path / "runs")


def test_a_prompt_that_would_be_cut_is_refused_by_name(run: RunContext, tmp_path: Path) -> None:
    out = tmp_path / "grid.png"
    with pytest.raises(
        UsageError, match="generate: the prompt 'a panda and a cat.*longer than the 16"
    ) as caught:
        generate(run, "a panda and a cat" + " and a dog" * 6, "base", 1, 0, out)
    assert caught.value.exit_code == 2 and not out.exists()
    generate(run, "a panda and a cat", "base", 1, 0, out)  # the control
    assert out.is_file()


def test_a_negative_prompt_that_would_be_cut_is_refused(run: RunContext, tmp_path: Path) -> None:
    sampler = run.params.sampler.model_copy(update={"negative_prompt": "dog " * 20})
    run.params = run.params.model_copy(update={"sampler": sampler})
    with pytest.raises(UsageError, match="the prompt 'dog dog"):
        generate(run, "a panda", "base", 1, 0, tmp_path / "grid.png")


def test_a_base_that_draws_nothing_finite_leaves_no_picture(run: RunContext, tmp_path: Path) -> None:
    weights = run.models.base.denoiser.named_parameters()
    next(p for name, p in weights if name.endswith("to_v.weight")).data.mul_(float("inf"))
    with pytest.raises(BaseModelError, match="generate: the pictures of 'a panda' by the original model"):
        generate(run, "a panda", "base", 2, 0, tmp_path / "grid.png")
    assert not (tmp_path / "grid.png").exists()
