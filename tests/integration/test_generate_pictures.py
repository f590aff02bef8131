"""Pictures by several processes: the same bytes as one process makes, gaps alone after a death, errors of the
workers."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from fade.adapters.lora import LoraAdapter
from fade.config import MeshConfig, Params
from fade.errors import AdapterError, JobError
from fade.jobs.base import no_progress
from fade.jobs.generate import GenerateJob
from fade.models.base import DiffusionModel
from fade.models.loading import load_model
from fade.run.context import RunContext
from fade.utils.hashing import sha256_of
from tasks.launch import run_job
from tasks.launch.accelerate import environment
from tasks.stages.generate_pictures import distributed, generate
from tests.support import DEEP, make_tiny_base

NAMES = ("panda", "koala", "bear", "tiger", "lion", "cat", "dog", "wolf", "tulip", "rose")
PROMPTS = [f"a {name}" for name in NAMES]
SEEDS = [3, 4]
Bytes = dict[str, bytes]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> DiffusionModel:
    return load_model(str(make_tiny_base(tmp_path_factory.mktemp("base"), **DEEP)), device="cpu")


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """The bytes are the same at equal thread counts."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def context(base: DiffusionModel, home: Path, processes: int, steps: int = 2) -> RunContext:
    """A run of a loaded base: three prompts of two pictures a batch, so four batches, the last one short."""
    params = Params.model_validate(
        {
            "sampler": {"batch_size": 7, "steps": steps},
            "train": {"processes": processes, "deadline_seconds": 120},
        }
    )
    run = RunContext(params, "panda", home / "runs")
    (home / "run").mkdir(parents=True, exist_ok=True)
    run.models.__dict__["base"] = base
    run.__dict__["folder"] = home / "run"
    return run


def cached(run: RunContext) -> Bytes:
    return {path.name: path.read_bytes() for path in (run.cache.root / "pictures").glob("*.safetensors")}


def drawn(run: RunContext, *, seeds: list[int] = SEEDS, adapter: Path | None = None) -> Bytes:
    """The cache's files after one draw, by as many processes as the run has."""
    with distributed(run, adapter):
        run.generator.generate(PROMPTS, seeds, sha256_of(adapter) if adapter else "")
    return cached(run)


@pytest.fixture
def adapter(base: DiffusionModel, tmp_path: Path) -> Path:
    lora = LoraAdapter.insert(base, MeshConfig(rank=2, alpha=4.0), seed=0)
    generator = torch.Generator().manual_seed(1)
    try:
        lora.load_state_dict(
            {n: torch.randn(p.shape, generator=generator) for n, p in lora.state_dict().items()}
        )
        lora.save(tmp_path / "adapter.safetensors", {"base_sha256": base.sha256, "concept": "panda"})
    finally:
        lora.remove()
    return tmp_path / "adapter.safetensors"


def test_two_processes_give_the_files_of_one(
    base: DiffusionModel, tmp_path: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the base and of a merged adapter. What the one process has encoded before, as a run has by then,
    does not count: here it is another prompt's embedding."""
    alone, two = context(base, tmp_path / "one", 1), context(base, tmp_path / "two", 2)
    monkeypatch.setitem(base._encoded, PROMPTS[0], base.encode(PROMPTS[1:2])[0])
    one = drawn(alone)
    assert len(one) == len(PROMPTS) and drawn(two) == one
    assert (alone.generator.generated, two.generator.generated) == (20, 20)
    assert drawn(two) == one and two.generator.generated == 20  # nothing was missing
    control = drawn(context(base, tmp_path / "control", 1), seeds=[3, 5])
    assert set(control.values()).isdisjoint(one.values())

    lora = LoraAdapter.load(base, adapter)
    try:
        lora.merge()
        erased = drawn(alone, adapter=adapter)
        assert drawn(two, adapter=adapter) == erased
    finally:
        lora.remove()
    assert len(erased) == 2 * len(PROMPTS)
    latents = [
        alone.generator.generate(PROMPTS, SEEDS, sha)["a cat"].latents for sha in ("", sha256_of(adapter))
    ]
    assert not torch.allclose(*latents, atol=1e-3)
    assert alone.generator.generated == 40


def make_part(job: GenerateJob, rank: int, world: int) -> int:
    """The number of pictures that one rank makes."""
    job.run(rank, world, no_progress, device="cpu")
    return int(json.loads((job.out / f"done-{rank}.json").read_text())["made"])


def job_of(run: RunContext, **changes: object) -> GenerateJob:
    fields = {
        "base": run.models.base.path,
        "base_sha256": run.models.base.sha256,
        "sampler": run.params.sampler,
        "prompts": PROMPTS,
        "seeds": SEEDS,
        "cache": run.cache.root,
        "processes": run.params.train.processes,
        "out": run.folder / "job",
    }
    return GenerateJob.model_validate({**fields, **changes})


def test_after_the_death_of_a_rank_only_the_gaps_are_made(base: DiffusionModel, tmp_path: Path) -> None:
    run, whole = context(base, tmp_path / "cut", 2, 60), context(base, tmp_path / "whole", 1, 60)
    line = [sys.executable, "-m", "fade.jobs.worker", str(job_of(run).write())]
    env = {**environment(2, "cpu"), "RANK": "1", "WORLD_SIZE": "2"}
    with subprocess.Popen(line, env=env) as rank:
        while not cached(run):
            assert rank.poll() is None, "it ended before it could be killed"
            time.sleep(0.005)
        rank.kill()
    left = {path: path.stat().st_mtime_ns for path in (run.cache.root / "pictures").glob("*.safetensors")}
    assert 0 < len(left) < 4  # of the second and the fourth batch, which have three prompts and one
    before = cached(run)
    assert drawn(run) == drawn(whole)
    assert drawn(run).items() >= before.items()
    assert {path: path.stat().st_mtime_ns for path in left} == left
    complete = 6 if len(before) == 3 else 0  # a batch that was cut short is made again whole
    assert run.generator.generated == 20 - complete


def test_one_process_makes_what_no_other_one_has_made(base: DiffusionModel, tmp_path: Path) -> None:
    run, alone = context(base, tmp_path, 2), context(base, tmp_path / "alone", 1)
    job = job_of(run)
    job.write()
    assert make_part(job, 1, 2) == 20  # process 0 has not started
    assert cached(run) == drawn(alone)
    assert job.made() is None
    assert make_part(job, 0, 2) == 0 and job.made() == 20


@pytest.mark.parametrize(("rank", "world"), [(0, 1), (0, 3), (2, 2)])
def test_another_number_of_processes_is_refused(
    base: DiffusionModel, tmp_path: Path, rank: int, world: int
) -> None:
    run = context(base, tmp_path, 2)
    with pytest.raises(JobError, match=f"process {rank} of {world} started where the job is for 2"):
        make_part(job_of(run), rank, world)
    assert cached(run) == {}


def test_a_launcher_that_starts_another_number_is_refused_in_the_workers_words(
    base: DiffusionModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `accelerate launch --cpu --num_processes 2` does, which starts one."""
    launch = run_job.launch
    monkeypatch.setattr(
        run_job, "launch", lambda module, job, n, device, log: launch(module, job, 1, device, log)
    )
    run = context(base, tmp_path, 2)
    with pytest.raises(JobError, match="process 0 of 1 started where the job is for 2"):
        generate(run, PROMPTS, SEEDS)
    assert cached(run) == {}


def test_a_changed_adapter_file_and_a_hash_without_a_file_are_refused(
    base: DiffusionModel, tmp_path: Path, adapter: Path
) -> None:
    run = context(base, tmp_path, 1)
    job = job_of(run, adapter=adapter, adapter_sha256="0" * 64)
    with pytest.raises(AdapterError, match="is not the adapter 000000000000"):
        make_part(job, 0, 1)
    with pytest.raises(ValueError, match="go together"):
        job_of(run, adapter_sha256="0" * 64)
    assert cached(run) == {}


def test_a_key_holds_what_decides_the_pictures_and_no_path(base: DiffusionModel, tmp_path: Path) -> None:
    job = job_of(context(base, tmp_path, 2))
    same = {"out": tmp_path / "elsewhere", "cache": tmp_path / "other", "base": "moved", "processes": 8}
    assert job.model_copy(update=same).key() == job.key() == GenerateJob.read(job.write()).key()
    for change in ({"seeds": (3, 5)}, {"prompts": ("a cat",)}, {"base_sha256": "0" * 64}):
        assert job.model_copy(update=change).key() != job.key()
    (job.out / "job.json").write_text("{")
    with pytest.raises(JobError, match="is no JSON"):
        GenerateJob.read(job.out / "job.json")


def test_a_rank_without_pictures_to_make_is_no_failure(base: DiffusionModel, tmp_path: Path) -> None:
    """More processes than batches."""
    job = job_of(context(base, tmp_path, 2), prompts=PROMPTS[:2])
    job.write()
    assert [make_part(job, rank, 2) for rank in (0, 1)] == [4, 0] and job.made() == 4


def test_with_a_deployment_this_process_makes_no_picture(
    base: DiffusionModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pool that completes without making them is an error, not a reason to make them here."""
    params = context(base, tmp_path, 1).params
    schedule = params.schedule.model_copy(update={"train_deployment": "run-job/gpu"})
    run = context(base, tmp_path, 1)
    run.params = params.model_copy(update={"schedule": schedule})
    jobs: list[GenerateJob] = []

    def pool(job: GenerateJob, path: Path, name: str, deadline: float, *, reuse: bool) -> None:
        jobs.append(GenerateJob.read(path))
        if len(jobs) == 1:
            make_part(jobs[-1], 0, 1)
        else:
            job.finish(0, 0)

    monkeypatch.setattr("tasks.launch.deployment.run_deployed", pool)
    with distributed(run):
        assert len(run.generator.generate(PROMPTS, SEEDS)) == len(PROMPTS)
        assert len(jobs) == 1 and jobs[0].out.is_absolute() and jobs[0].cache.is_absolute()
        with pytest.raises(JobError, match="lacks the pictures of 'a panda'"):
            run.generator.generate(PROMPTS, [8, 9])
