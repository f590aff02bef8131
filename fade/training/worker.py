"""One worker of a training on several processes: ``python -m fade.training.worker job.json``, started by a
launcher.

For the process that waits (`tasks.launch.accelerate`) progress goes to ``progress.json`` beside the job, the
reason of a failure to ``error.json``."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

from fade.errors import FadeError
from fade.training import job as files
from fade.training.job import Job
from fade.utils.files import write_json
from fade.utils.worker import run_worker


def main(argv: list[str]) -> int:
    """Train one job. Returns the exit status: 0, the error's own (1), or 2 for bad usage."""
    first = os.environ.get("RANK", "0") == "0"  # an error that all ranks meet is written once
    return run_worker(argv, "fade.training.worker", _work, _explain, files.ERROR if first else None)


def _work(path: Path) -> None:
    from fade.training.loop import train

    train(Job.read(path), on_progress=partial(write_json, path.parent / files.PROGRESS))


def _explain(error: Exception) -> FadeError:
    from fade.training.loop import explain

    return explain(error)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
