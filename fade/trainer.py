"""The trainer's process: ``python -m fade.trainer job.json`` runs one job, repeatably on a GPU too, and says why it ended.

``fade.training`` can be run the same way; that is the same but on a GPU, where it repeats itself only nearly (`fade.repeatable`).
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

import torch

from fade import job as files
from fade.errors import StorageError
from fade.job import Job, write_json
from fade.repeatable import hold_still
from fade.training import _explain, train


def main(argv: list[str]) -> int:
    """Run one job file. Errors go to stderr and, for the waiting process, to ``error.json`` beside the job."""
    if len(argv) != 1:
        sys.stderr.write("usage: python -m fade.trainer job.json\n")
        return 2
    path = Path(argv[0])
    if os.environ.get("ACCELERATE_USE_CPU") == "true" or not hold_still():
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        train(Job.read(path))
    except Exception as error:
        known = _explain(error)
        if os.environ.get("RANK", "0") == "0":
            fact = {"type": type(known).__name__, "what": known.what, "stage": known.stage, "action": known.action}
            with suppress(StorageError):  # a full disk: the waiting process looks for itself
                write_json(path.parent / files.ERROR, fact)
        sys.stderr.write(f"{type(known).__name__}: {known}\n")
        return known.exit_code
    return 0


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # everything is written; Python would take torch apart for another second
