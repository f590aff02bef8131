"""What the worker processes have in common: usage, exit status, and the reason of a failure as a file."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from fade.errors import FadeError, StorageError
from fade.utils.files import write_json


def run_worker(
    argv: list[str],
    module: str,
    work: Callable[[Path], object],
    explain: Callable[[Exception], FadeError],
    error_file: str | None,
) -> int:
    """Call ``work`` with the job file that ``argv`` names. Returns the exit status: 0, the error's own, or 2
    for bad usage.

    module: the worker, for the usage line. explain: an error of any kind as one of this package. error_file:
    name of the file beside the job that gets the reason of a failure, for `fade.errors.revive`; None for a
    process that leaves this to another."""
    if len(argv) != 1:
        sys.stderr.write(f"usage: python -m {module} job.json\n")
        return 2
    path = Path(argv[0])
    try:
        work(path)
    except Exception as error:
        if not isinstance(error, FadeError):
            traceback.print_exc()
        known = explain(error)
        if error_file is not None:
            fact = {
                "type": type(known).__name__,
                "what": known.what,
                "stage": known.stage,
                "action": known.action,
            }
            with suppress(StorageError):  # a full disk: the waiting process measures it itself
                write_json(path.parent / error_file, fact)
        sys.stderr.write(f"{type(known).__name__}: {known}\n")
        return known.exit_code
    return 0
