"""Pictures for mining and evaluation by ``train.processes`` processes: a job on as many ranks fills the
cache, which is read afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fade.errors import JobError
from fade.utils.files import read_json, storage_error
from tasks.launch.accelerate import launch, worker_error

if TYPE_CHECKING:
    from fade.generation.generator import OnBatch
    from fade.jobs.generate import GenerateJob
    from fade.run.context import RunContext

STAGE = "generate"
FOLDER = "generate"
"""Folder of the jobs' files in the run's folder."""


@contextmanager
def distributed(run: RunContext, adapter: Path | None = None) -> Iterator[None]:
    """Inside, ``run.generator`` has pictures that its cache lacks made by ``train.processes`` processes.

    With one process it makes them itself. adapter: file of the adapter that the caller has inserted."""
    if run.params.train.processes == 1:
        yield
        return

    def workers(prompts: Sequence[str], seeds: Sequence[int], adapter_sha256: str, on_batch: OnBatch) -> int:
        return generate(run, prompts, seeds, (adapter, adapter_sha256) if adapter_sha256 else None, on_batch)

    run.generator.workers = workers
    try:
        yield
    finally:
        run.generator.workers = None


def generate(
    run: RunContext,
    prompts: Sequence[str],
    seeds: Sequence[int],
    adapter: tuple[Path | None, str] | None = None,
    on_batch: OnBatch = lambda done, total: None,
) -> int:
    """Have ``train.processes`` processes make the pictures that the cache lacks. Returns the number made.

    adapter: file and sha256 of the adapter that is merged; None: the base. on_batch: called with the pictures
    made so far and those to make, of all ranks that have begun. Raises what a worker raised, JobError when
    one died, TrainingError after ``train.deadline_seconds``, StorageError; what was made by then stays in
    the cache."""
    from fade.jobs.base import ERROR, LOG
    from fade.jobs.generate import GenerateJob

    path, sha256 = adapter or (None, "")
    job = GenerateJob(
        base=run.base.path,
        base_sha256=run.base.sha256,
        sampler=run.generator.sampler,
        prompts=tuple(prompts),
        seeds=tuple(seeds),
        adapter=path,
        adapter_sha256=sha256,
        cache=run.generator.cache.root,
        processes=run.params.train.processes,
        out=run.folder / FOLDER,
    )
    job = job.model_copy(update={"out": job.out / job.key()[:12]})
    log = job.out / LOG
    try:
        group = launch("fade.jobs.worker", job.write(), job.processes, run.base.device.type, log)
        status = group.wait(run.params.train.deadline_seconds, _ticker(job, on_batch), STAGE)
    except OSError as error:
        raise storage_error(error, job.out, STAGE) from error
    if status != 0:
        raise worker_error(job.out / ERROR, log, status, STAGE, JobError, "a worker")
    made = job.made()
    if made is None:
        what = f"the workers made the pictures of another job: the code changed meanwhile; see {log}."
        raise JobError(what, stage=STAGE, action="run it again.")
    return made


def _ticker(job: GenerateJob, on_batch: OnBatch) -> Callable[[], None]:
    """Reads the ranks' progress and passes news on."""
    shown = 0

    def tick() -> None:
        nonlocal shown
        news = [now for rank in range(job.processes) if (now := read_json(job.progress(rank))) is not None]
        done = sum(now["done"] for now in news)
        if done > shown:
            shown = done
            on_batch(done, sum(now["total"] for now in news))

    return tick
