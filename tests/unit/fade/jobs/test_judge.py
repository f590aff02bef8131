"""A judge's job is for its own pictures and its own number of processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from fade.config import JudgeTrainingConfig
from fade.data.manifest import MANIFEST
from fade.errors import DataError, JobError
from fade.jobs.base import no_progress
from fade.jobs.judge import JudgeJob
from fade.jobs.worker import read_job
from fade.utils.hashing import sha256_of
from tests.datasets import make_dataset


@pytest.fixture
def job(tmp_path: Path) -> JudgeJob:
    make_dataset(tmp_path / "set", size=16)
    return JudgeJob(
        pictures=tmp_path / "set",
        manifest_sha256=sha256_of(tmp_path / "set" / MANIFEST),
        config=JudgeTrainingConfig(processes=2),
        work=tmp_path / "work",
        out=tmp_path / "work" / "job",
    )


def test_a_worker_reads_the_job_that_was_written(job: JudgeJob) -> None:
    found = read_job(job.write())
    assert isinstance(found, JudgeJob) and found.key() == job.key() and found.work == job.work
    assert found.world_size == 2


def test_pictures_that_changed_meanwhile_are_named(job: JudgeJob) -> None:
    manifest = job.pictures / MANIFEST
    manifest.write_text(manifest.read_text(encoding="utf-8").replace("rose", "moon"), encoding="utf-8")
    with pytest.raises(DataError, match="the manifest of .*set is another than the job's") as caught:
        job.run(0, 2, no_progress, device="cpu")
    assert caught.value.action and not job.work.exists()


def test_another_number_of_processes_is_refused(job: JudgeJob) -> None:
    with pytest.raises(JobError, match=r"process 0 of 1 started where the job is for 2 process\(es\)"):
        job.run(0, 1, no_progress, device="cpu")
    key = job.key()
    moved = job.model_copy(update={"work": Path("elsewhere"), "out": Path("there")})
    other = job.model_copy(update={"config": JudgeTrainingConfig(processes=4)})
    assert moved.key() == key != other.key()
