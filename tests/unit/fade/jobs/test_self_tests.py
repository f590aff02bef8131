"""A process that loads a job's models compares them with those that the job was written with."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from fade.config import MeshConfig, MethodConfig, SamplerConfig, SelfTestConfig, TrainConfig
from fade.errors import BaseModelError
from fade.jobs.attack import AttackJob
from fade.jobs.base import Job, no_progress
from fade.jobs.generate import GenerateJob
from fade.jobs.self_tests import base_self_test, vision_self_test
from fade.jobs.train import TrainJob
from fade.judges.classifier import Classifier
from fade.models.base import DiffusionModel
from fade.models.loading import load_model
from fade.utils import notes
from fade.utils.hashing import sha256_of
from tests.support import bare_job, make_latents, make_tiny_judge
from tests.unit.fade.jobs.test_attack import ATTACK, SAMPLER

WARN = SelfTestConfig(difference="warn")


@pytest.fixture(scope="module")
def base(tiny_base_dir: Path) -> DiffusionModel:
    return load_model(str(tiny_base_dir))


def spoiled(test: Any) -> Any:
    """As a machine would have measured it whose libraries compute something else."""
    other = copy.deepcopy(dict(test))
    next(iter(other["numbers"].values()))[0] += 0.5
    return other


def generating(base: DiffusionModel, out: Path) -> Job:
    fields = {"base": base.path, "base_sha256": base.sha256, "cache": out / "cache", "out": out}
    sampler = SamplerConfig(steps=2, batch_size=4)
    return GenerateJob(**fields, sampler=sampler, prompts=("a panda",), seeds=(0, 1))


def training(base: DiffusionModel, out: Path) -> Job:
    latents = make_latents(out / "latents.safetensors", k=2, m=2, shape=base.latent_shape)
    fields = {"base": base.path, "base_sha256": base.sha256, "latents_sha256": sha256_of(latents)}
    steps = TrainConfig(steps=1, batch_target=1, batch_neighbours=2, precision="fp32")
    small = {"train": steps, "mesh": MeshConfig(rank=2), "method": MethodConfig(name="fade", variant="paper")}
    return bare_job(out).model_copy(update={**fields, **small, "latents": latents})


@pytest.mark.parametrize("kind", [generating, training])
def test_a_base_that_computes_something_else_is_refused_or_named(
    base: DiffusionModel,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    kind: Any,
) -> None:
    monkeypatch.setattr(notes, "_written", set())
    tmp_path.joinpath("out").mkdir()
    plain: TrainJob | GenerateJob = kind(base, tmp_path / "out")
    recorded = base_self_test(base)

    def run(test: Any, config: SelfTestConfig = SelfTestConfig()) -> None:  # noqa: B008
        job = plain.model_copy(update={"self_tests": {"base": test}, "self_test": config})
        assert job.key() == plain.key()
        type(job).read(job.write()).run(0, 1, no_progress, device="cpu")

    with pytest.raises(BaseModelError, match="something else than where the job was written") as caught:
        run(spoiled(recorded))
    assert caught.value.stage == "self-test" and base.path in str(caught.value) and not plain.finished()
    run(spoiled(recorded), SelfTestConfig(tolerance=0.6))
    assert "self-test" not in capsys.readouterr().err
    run(spoiled(recorded), WARN)
    assert "something else than where the job was written" in capsys.readouterr().err
    run({**spoiled(recorded), "sha256": "f" * 64})  # of other weights: the hash says so
    run(recorded)  # the control
    assert plain.finished()


def test_so_is_a_judge(base: DiffusionModel, tmp_path: Path) -> None:
    judge = Classifier(str(make_tiny_judge(tmp_path / "judge")))
    recorded = vision_self_test(judge, judge.logits)
    fields = {"base": base.path, "base_sha256": base.sha256, "images": tmp_path, "images_sha256": "i" * 64}
    names = {"judge": str(tmp_path / "judge"), "judge_sha256": judge.sha256, "target": "panda"}
    plain = AttackJob(**fields, **names, conditions=("base",), sampler=SAMPLER, attack=ATTACK, out=tmp_path)

    def loaded(test: Any, given: Classifier | None = None) -> Classifier:
        return plain.model_copy(update={"self_tests": {"judge": test}}).load_judge(base, given)

    with pytest.raises(BaseModelError, match=r"judge \(judge\) puts out something else"):
        loaded(spoiled(recorded))
    assert loaded(recorded).sha256 == judge.sha256  # the control
    assert loaded(spoiled(recorded), judge) is judge  # the caller tested its own
