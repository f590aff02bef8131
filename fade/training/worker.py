"""One worker of a training on several processes: ``python -m fade.training.worker job.json``, started by a
launcher.

For the process that waits (`tasks.launch.accelerate`) progress goes to ``progress.json`` beside the job, the
reason of a failure to ``error.json``."""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import suppress
from functools import partial
from pathlib import Path

from fade.errors import FadeError, StorageError
from fade.training import job as files
from fade.training.job import Job
from fade.utils.files import write_json


def main(argv: list[str]) -> int:
    """Train one job. Returns the exit status: 0, the error's own (1), or 2 for bad usage."""
    if len(argv) != 1:
        sys.stderr.write("usage: python -m fade.training.worker job.json\n")
        return 2
    from fade.training.loop import explain, train

    path = Path(argv[0])
    try:
        train(Job.read(path), on_progress=partial(write_json, path.parent / files.PROGRESS))
    except Exception as error:
        if not isinstance(error, FadeError):
            traceback.print_exc()
        known = explain(error)
        if os.environ.get("RANK", "0") == "0":
            fact = {
                "type": type(known).__name__,
                "what": known.what,
                "stage": known.stage,
                "action": known.action,
            }
            with suppress(StorageError):  # a full disk: the waiting process looks for itself
                write_json(path.parent / files.ERROR, fact)
        sys.stderr.write(f"{type(known).__name__}: {known}\n")
        return known.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
