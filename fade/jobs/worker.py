"""One worker of a job: ``python -m fade.jobs.worker job.json``, started by torchrun or accelerate, which set
RANK, LOCAL_RANK and WORLD_SIZE.

For the process that waits (`tasks.stages.generate_pictures`) each rank's progress goes to
``progress-RANK.json`` beside the job, the reason of a failure to ``error.json``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from fade.jobs.base import ERROR
from fade.jobs.generate import GenerateJob, explain, run
from fade.utils.files import write_json
from fade.utils.worker import run_worker


def main(argv: list[str]) -> int:
    """Do this rank's part of one job. Returns the exit status: 0, the error's own (1), or 2 for bad usage."""
    return run_worker(argv, "fade.jobs.worker", _work, explain, ERROR)


def _work(path: Path) -> None:
    job = GenerateJob.read(path)
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))

    def follow(done: int, total: int) -> None:
        write_json(job.progress(rank), {"done": done, "total": total})

    run(job, rank, world, follow)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
