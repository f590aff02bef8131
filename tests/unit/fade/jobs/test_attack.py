"""The attacks as a job: units shared by ranks give what one process gives, results are kept by key, and the
conditions are the models that they name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from fade.adapters.lora import LoraAdapter
from fade.config import MeshConfig
from fade.errors import AdapterError, BaseModelError, JobError, UnknownNameError
from fade.evaluation.attacks.material import pictures_sha256
from fade.jobs.attack import AttackJob
from fade.jobs.base import no_progress
from fade.jobs.worker import read_job
from fade.models.base import DiffusionModel
from fade.models.loading import load_model
from fade.utils.hashing import sha256_of
from tests.datasets import make_dataset
from tests.unit.fade.evaluation.attacks.conftest import CONFIG, SAMPLER, Oracle

ATTACK = CONFIG.model_copy(update={"names": ("inversion", "noised")})


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    make_dataset(folder, size=64)
    return folder


@pytest.fixture(scope="module")
def base(tiny_base_dir: Path) -> DiffusionModel:
    return load_model(str(tiny_base_dir))


@pytest.fixture(scope="module")
def adapter(base: DiffusionModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    lora = LoraAdapter.insert(base, MeshConfig(rank=2, alpha=2.0), seed=0)
    generator, path = torch.Generator().manual_seed(0), tmp_path_factory.mktemp("adapter") / "a.safetensors"
    state = lora.state_dict()
    lora.load_state_dict(
        {name: 0.5 * torch.randn(value.shape, generator=generator) for name, value in state.items()}
    )
    lora.save(path, {"base_sha256": base.sha256, "concept": "panda"})
    lora.remove()
    return path


@pytest.fixture
def job(base: DiffusionModel, adapter: Path, pictures: Path, tmp_path: Path) -> AttackJob:
    return AttackJob(
        base=base.path,
        base_sha256=base.sha256,
        adapter=adapter,
        adapter_sha256=sha256_of(adapter),
        judge="oracle",
        judge_sha256=Oracle.sha256,
        images=pictures,
        images_sha256=pictures_sha256(pictures, "panda", ATTACK),
        target="panda",
        conditions=("erased", "base", "control"),
        sampler=SAMPLER,
        attack=ATTACK,
        out=tmp_path / "job",
    )


def results(job: AttackJob) -> dict[str, Any]:
    return {condition: job.result(condition) for condition in job.conditions}


def run(job: AttackJob, base: DiffusionModel, rank: int = 0, on_progress: Any = no_progress) -> None:
    job.run(rank, job.processes, on_progress, device="cpu", base=base, judge=Oracle())


def test_two_ranks_give_the_results_of_one(job: AttackJob, base: DiffusionModel, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in base.denoiser.state_dict().items()}
    job.write()
    ticks: list[tuple[int, int]] = []
    run(job, base, on_progress=lambda done, total, text: ticks.append((done, total)))
    assert ticks == [(i, 6) for i in range(1, 7)] and job.finished()
    assert all(torch.equal(value, before[name]) for name, value in base.denoiser.state_dict().items())
    loss = [row["inversion"]["facts"]["loss_before"] for row in results(job).values()]
    assert len(set(loss)) == 3  # three models, or materials

    two = job.model_copy(update={"processes": 2, "out": tmp_path / "two"})
    two.write()
    run(two, base, 1)
    assert not two.finished()
    run(two, base, 0)
    assert two.finished() and results(two) == results(job)


def test_the_base_needs_no_adapter_and_is_the_same_for_all(
    job: AttackJob, base: DiffusionModel, tmp_path: Path
) -> None:
    run(job, base)
    alone = {"conditions": ("base",), "adapter": None, "adapter_sha256": "", "out": tmp_path / "base"}
    ceiling = AttackJob.model_validate({**job.model_dump(), **alone})
    run(ceiling, base)
    assert ceiling.result("base") == job.result("base")


def test_the_original_model_is_never_attacked_under_the_erased_ones_name(job: AttackJob) -> None:
    fields = {**job.model_dump(), "adapter": None, "adapter_sha256": ""}
    with pytest.raises(ValueError, match="other than base need an adapter"):
        AttackJob.model_validate(fields)
    assert AttackJob.model_validate({**fields, "conditions": ("base",)}).adapter is None


def test_a_kept_unit_is_not_run_again_and_a_damaged_one_is(job: AttackJob, base: DiffusionModel) -> None:
    run(job, base)
    whole, path = results(job), job.out / "results" / "base-noised.json"
    row = json.loads(path.read_text())
    path.write_text(json.dumps({**row, "success": -1.0}))
    run(job, base)
    assert job.result("base")["noised"]["success"] == -1.0
    for damaged in ("{", json.dumps({**row, "key": "another"})):
        path.write_text(damaged)
        assert not job.finished()
        run(job, base)
        assert results(job) == whole


def test_the_key_holds_what_decides_the_results_and_no_path(
    job: AttackJob, pictures: Path, tmp_path: Path
) -> None:
    assert read_job(job.write()).key() == job.key()
    moved = {"out": tmp_path, "images": tmp_path, "judge": "x", "base": "y", "processes": 4}
    assert job.model_copy(update=moved).key() == job.key()
    changed = [
        {"attack": ATTACK.model_copy(update={"seed": 1})},
        {"sampler": SAMPLER.model_copy(update={"steps": 5})},
        {"images_sha256": "0" * 64},
        {"judge_sha256": "0" * 64},
        {"target": "rose"},
    ]
    assert len({job.model_copy(update=change).key() for change in ({}, *changed)}) == 6
    copy = tmp_path / "pictures"
    make_dataset(copy, size=64)
    before = pictures_sha256(copy, "panda", ATTACK)
    (path,) = [p for p in copy.rglob("*.png") if "panda" in p.name][:1]
    path.write_bytes(path.read_bytes() + b" ")
    assert pictures_sha256(copy, "panda", ATTACK) != before


def test_what_does_not_fit_is_refused(job: AttackJob, base: DiffusionModel) -> None:
    wrong = job.model_copy(update={"attack": ATTACK.model_copy(update={"names": ("noised", "inversoin")})})
    with pytest.raises(UnknownNameError, match="'inversoin'") as error:
        run(wrong, base)
    assert error.value.exit_code == 2
    with pytest.raises(BaseModelError, match="the job was written for 000000000000"):
        run(job.model_copy(update={"judge_sha256": "0" * 64}), base)
    with pytest.raises(BaseModelError, match="the job was written for 000000000000"):
        run(job.model_copy(update={"base_sha256": "0" * 64}), base)
    with pytest.raises(AdapterError, match="is not the adapter 000000000000"):
        run(job.model_copy(update={"adapter_sha256": "0" * 64}), base)
    with pytest.raises(JobError, match="process 0 of 2 started where the job is for 1"):
        job.run(0, 2, no_progress, device="cpu", base=base, judge=Oracle())
    assert not (job.out / "results").exists() or not list((job.out / "results").glob("erased-*"))


def test_a_file_of_no_known_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text('{"kind": "bake"}')
    with pytest.raises(JobError, match=r"'bake' is no kind of job \(attack, generate, judge, train\)"):
        read_job(tmp_path / "job.json")
