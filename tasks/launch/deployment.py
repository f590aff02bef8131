"""Run a job as a deployment of its own: this process runs where no GPU is, the job on a pool of machines that
have one.

Both must see the same runs folder under the same path (a shared disk): the job, its checkpoints and its
result are files there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fade.jobs.base import JOB, Job
from fade.utils.files import write_whole


def run_deployed(job: Job, path: Path, name: str, deadline: float, *, reuse: bool) -> None:
    """Have the deployment ``name`` run the job in the file at ``path``, and wait for its end.

    reuse: a completed run of the same job counts, too; False: each call is a run of its own. Raises the job's
    FAILURE when that run fails, or has not ended after ``deadline`` seconds (it may have waited for a GPU all
    the time)."""
    from prefect.deployments import run_deployment
    from prefect.exceptions import ObjectNotFound

    try:
        # The key: a parent that died and is started again waits for the run that it had begun.
        run: Any = run_deployment(
            name,
            parameters={"job_path": str(path.resolve()), "deadline_seconds": deadline},
            timeout=deadline,
            idempotency_key=f"{job.key()}-{_attempts(path)}",
        )
    except ObjectNotFound as error:
        action = "deploy prefect.yaml, or correct schedule.train_deployment."
        what = f"no deployment is called {name!r}."
        raise job.FAILURE(what, stage=job.STAGE, action=action) from error
    completed = run.state is not None and run.state.is_completed()
    if run.state is None or (run.state.is_final() and not (reuse and completed and job.finished())):
        _count_attempt(path)
    if not completed:
        state = f"{run.state.type.value.lower()}: {run.state.message}" if run.state else "unknown"
        action = "see that run in Prefect; running again resumes."
        raise job.FAILURE(f"the job at {name!r} ({run.name}) is {state}.", stage=job.STAGE, action=action)
    if not job.finished():
        what = f"{run.name} completed, but {path.parent} holds no result of this job."
        action = "let both pools see the same runs folder and the same code."
        raise job.FAILURE(what, stage=job.STAGE, action=action)


def _attempts(path: Path) -> int:
    """Ended runs of the job whose result does not count; each further try is a run of its own."""
    file = path.with_name(f"{JOB}.tries")
    return int(file.read_text(encoding="ascii")) if file.is_file() else 0


def _count_attempt(path: Path) -> None:
    write_whole(path.with_name(f"{JOB}.tries"), str(_attempts(path) + 1), stage="job")
