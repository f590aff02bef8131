"""Run a job: in this process, in several workers, or on the machine of a deployment. Never retried.

The only place that decides where heavy work is done: ``train.processes`` above 1 starts workers,
``schedule.train_deployment`` sends the job to a pool of GPU machines, and then this process computes
nothing."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.errors import FadeError, StorageError
from fade.jobs.base import ERROR, LOG, Job, OnProgress, explain, no_progress
from fade.utils.files import read_json, storage_error, write_whole
from tasks.launch.accelerate import launch, threads, worker_error

if TYPE_CHECKING:
    from fade.run.context import RunContext

WORKER = "fade.jobs.worker"


def run_for(run: RunContext, job: Job, on_progress: OnProgress = no_progress, **options: Any) -> bool:
    """As `run_job`, where the run's parameters place it. A process that loads the models itself compares them
    with those that are loaded here (`fade.jobs.base.Job.check_self_test`)."""
    params, measured = run.params, run.models.self_tests.measured
    recorded = {name: dict(measured[name]) for name in job.MODELS if name in measured}
    job = job.model_copy(update={"self_tests": recorded, "self_test": params.self_test})
    place: dict[str, Any] = {
        "device": run.models.base.device.type,
        "deployment": params.schedule.train_deployment,
    }
    return run_job(job, on_progress, deadline=params.train.deadline_seconds, **place, **options)


def runs_here(run: RunContext) -> bool:
    """Whether this process does the run's heavy work itself."""
    return run.params.train.processes == 1 and not run.params.schedule.train_deployment


def run_job(
    job: Job,
    on_progress: OnProgress = no_progress,
    *,
    deadline: float,
    device: str = "cpu",
    deployment: str = "",
    reuse: bool = True,
    **loaded: Any,
) -> bool:
    """Run ``job`` to its end, resuming what was interrupted. True when its result was there already.

    deadline: seconds. device: ``cpu`` or ``cuda``. deployment: name of a Prefect deployment of
    ``flows/run_job.py``; empty: this machine. reuse: take a result in the job's folder (False: the result is
    elsewhere). loaded: models in this process's memory, which workers load for themselves. Raises what the
    job raises, its FAILURE when a worker died, the deadline passed or the job ended without a result,
    CacheError when a finished result was changed, StorageError."""
    if reuse and job.finished():
        return True
    try:
        path = (job.absolute() if deployment else job).write()
        if deployment:
            from tasks.launch.deployment import run_deployed

            run_deployed(job, path, deployment, deadline, reuse=reuse)
        elif job.world_size == 1:
            _run_here(job, on_progress, deadline, device, loaded)
        else:
            _run_in_workers(job, path, on_progress, deadline, device)
    except OSError as error:
        raise storage_error(error, job.out, job.STAGE) from error
    if not job.finished():
        what = f"the job ended without its result, or the code changed while it ran; see {job.out / LOG}."
        raise job.FAILURE(what, stage=job.STAGE, action="run it again.")
    return False


def _run_here(
    job: Job, on_progress: OnProgress, deadline: float, device: str, loaded: dict[str, Any]
) -> None:
    """The deadline is checked at each report. An error that is none of ours leaves its traceback in the
    job's log."""
    until = time.monotonic() + deadline

    def follow(done: int, total: int, text: str = "") -> None:
        on_progress(done, total, text)
        if time.monotonic() > until:
            what = f"the deadline of {deadline:g} s passed and the work was stopped."
            action = "run it again (it resumes), or raise train.deadline_seconds."
            raise job.FAILURE(what, stage=job.STAGE, action=action)

    try:
        with _settings_of_a_worker():
            job.run(0, 1, follow, device=device, **loaded)
    except FadeError:
        raise
    except Exception as error:
        with suppress(StorageError):
            write_whole(job.out / LOG, traceback.format_exc(), stage=job.STAGE)
        raise explain(error, type(job)) from error


@contextmanager
def _settings_of_a_worker() -> Iterator[None]:
    """A worker's thread count, on which a result's last bits depend; without the user's settings for
    accelerate."""
    import torch

    users = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("ACCELERATE_")}
    before, own = torch.get_num_threads(), threads(1)
    if own != before:
        torch.set_num_threads(own)
    try:
        yield
    finally:
        os.environ.update(users)
        if own != before:
            torch.set_num_threads(before)


def _run_in_workers(job: Job, path: Path, on_progress: OnProgress, deadline: float, device: str) -> None:
    """Raises what a worker wrote down first, else the job's FAILURE or StorageError."""
    log = job.out / LOG
    group = launch(WORKER, path, job.world_size, device, log)
    status = group.wait(deadline, _ticker(job, on_progress), job.STAGE)
    if status != 0:
        raise worker_error(job.out / ERROR, log, status, job.STAGE, job.FAILURE, "a worker")


def _ticker(job: Job, on_progress: OnProgress) -> Callable[[], None]:
    """Adds up the progress of the ranks that have begun, and passes on what is new."""
    began, last = time.monotonic(), (-1, "")

    def tick() -> None:
        nonlocal last
        rows = [row for rank in range(job.world_size) if (row := read_json(job.progress(rank))) is not None]
        if not rows:
            if last[0] < 0 and time.monotonic() - began > 1:
                on_progress(0, 0, "starting")
                last = (0, "")
            return
        done, text = sum(row["done"] for row in rows), rows[0]["text"]
        if (done, text) != last:
            last = (done, text)
            on_progress(done, sum(row["total"] for row in rows), text)

    return tick
