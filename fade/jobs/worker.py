"""One worker of a job: ``python -m fade.jobs.worker job.json``, started by torchrun or accelerate, which set
RANK, LOCAL_RANK and WORLD_SIZE.

For the process that waits (`tasks.launch.run_job`) each rank's progress goes to ``progress-RANK.json`` beside
the job, the reason of the first failure to ``error.json``."""

from __future__ import annotations

import os
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path

from fade.errors import FadeError, JobError, StorageError
from fade.jobs.base import ERROR, Job, explain, kind_of
from fade.models.loading import pick_device
from fade.utils.files import write_json

KINDS = ("attack", "generate", "judge", "train")
_PROGRESS_EVERY = 0.2  # seconds


def main(argv: list[str]) -> int:
    """Do this rank's part of one job. Returns the exit status: 0, the error's own (1), or 2 for bad usage."""
    if len(argv) != 1:
        sys.stderr.write("usage: python -m fade.jobs.worker job.json\n")
        return 2
    path, kind = Path(argv[0]), Job
    try:
        job = read_job(path)
        kind = type(job)
        _work(job)
    except Exception as error:
        if not isinstance(error, FadeError):
            traceback.print_exc()
        reason = explain(error, kind)
        sys.stderr.write(f"{type(reason).__name__}: {reason}\n")
        if not (path.parent / ERROR).exists():  # of several the first: the others may fail of its end
            fact = {name: getattr(reason, name) for name in ("what", "stage", "action")}
            with suppress(StorageError):  # a full disk: the waiting process measures it itself
                write_json(path.parent / ERROR, {"type": type(reason).__name__, **fact})
        return reason.exit_code
    return 0


def read_job(path: Path) -> Job:
    """The job in the file at ``path``, of whatever kind. Raises JobError."""
    kind = kind_of(path)
    if kind not in KINDS:
        what = f"{path}: {kind!r} is no kind of job ({', '.join(KINDS)})."
        raise JobError(what, stage="job", action="start the run again, which writes the job.")
    return _job_class(kind).read(path)


def _job_class(kind: str) -> type[Job]:
    """Imports that kind alone: a worker that makes pictures needs nothing of the attacks."""
    if kind == "attack":
        from fade.jobs.attack import AttackJob

        return AttackJob
    if kind == "generate":
        from fade.jobs.generate import GenerateJob

        return GenerateJob
    if kind == "judge":
        from fade.jobs.judge import JudgeJob

        return JudgeJob
    from fade.jobs.train import TrainJob

    return TrainJob


def _work(job: Job) -> None:
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    shown = 0.0

    def on_progress(done: int, total: int, text: str) -> None:
        nonlocal shown
        if (now := time.monotonic()) - shown >= _PROGRESS_EVERY or done >= total:
            shown = now
            write_json(job.progress(rank), {"done": done, "total": total, "text": text})

    job.run(rank, world, on_progress, device="cpu" if cpu else pick_device())


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
