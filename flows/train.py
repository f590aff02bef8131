"""A job as a deployment of its own: the parent runs where no GPU is, this one step on a pool of machines that
have one.

Both must see the same runs folder under the same path (a shared disk): the job, its checkpoints and the
adapter are files there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import flow

from fade.errors import TrainingError
from fade.training.job import JOB, Job
from tasks.stages import train
from tasks.stages.train import STAGE, Trained, find_finished, make_room, write_job

if TYPE_CHECKING:
    from fade.mining.neighborhood import Neighborhood
    from fade.run.context import RunContext


@flow(name="run-job", validate_parameters=False)
def run_job(job_path: str, device: str = "") -> dict[str, Any]:
    """Run the job at ``job_path``, or take its finished result.

    device: ``cpu`` or ``cuda``; empty: what this machine has.
    """
    from fade.models.stable_diffusion import pick_device

    found = train.run_job(Job.read(Path(job_path)), device=pick_device(device or "auto"))
    return {"adapter_sha256": found.sha256, "reused": found.reused, "run": found.run}


def train_elsewhere(context: RunContext, neighborhood: Neighborhood, lineage: Mapping[str, str]) -> Trained:
    """As `tasks.stages.train.train`, by the deployment that ``schedule.train_deployment`` names.

    Raises TrainingError when that run fails, or has not ended after the job's deadline (it may have waited
    for a GPU all the time)."""
    return by_deployment(write_job(context, neighborhood, lineage), context.params.schedule.train_deployment)


def by_deployment(job: Job, name: str) -> Trained:
    """Have the deployment ``name`` train a job, and take its adapter; see `train_elsewhere`."""
    from prefect.deployments import run_deployment
    from prefect.exceptions import ObjectNotFound

    if finished := find_finished(job):
        return finished
    here = Path(job.base)  # or a hub id
    whole = {
        "base": str(here.resolve()) if here.is_dir() else job.base,
        "latents": job.latents.resolve(),
        "out": job.out.resolve(),
    }
    job = job.model_copy(update=whole)  # paths are in no key
    make_room(job)
    path = job.write()
    action = "see that run in Prefect; running again resumes."
    try:
        # The key: a parent that died and is started again waits for the training that it had begun.
        run: Any = run_deployment(
            name,
            parameters={"job_path": str(path.resolve())},
            timeout=job.train.deadline_seconds,
            idempotency_key=f"{job.key()}-{_tries(path)}",
        )
    except ObjectNotFound as error:
        what = f"no deployment is called {name!r}."
        raise TrainingError(
            what, stage=STAGE, action="deploy prefect.yaml, or correct schedule.train_deployment."
        ) from error
    if run.state is None or not run.state.is_completed():
        if run.state is None or run.state.is_final():
            _count(path)
        said = f"{run.state.type.value.lower()}: {run.state.message}" if run.state else "unknown"
        raise TrainingError(f"the training at {name!r} ({run.name}) is {said}.", stage=STAGE, action=action)
    found = find_finished(job, reused=False)
    if found is None:
        _count(path)
        what = f"{run.name} completed, but {path.parent} holds no adapter of this job."
        raise TrainingError(
            what, stage=STAGE, action="let both pools see the same runs folder and the same code."
        )
    return found


def _tries(path: Path) -> int:
    """Trainings of the job that ended without an adapter; each try is a run of its own."""
    file = path.with_name(f"{JOB}.tries")
    return int(file.read_text(encoding="ascii")) if file.is_file() else 0


def _count(path: Path) -> None:
    from fade.utils.files import write_whole

    write_whole(path.with_name(f"{JOB}.tries"), str(_tries(path) + 1), stage=STAGE)
