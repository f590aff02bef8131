"""Ends servers whose starter is gone.

    python -m tasks.launch.watchdog_main < (one JSON line a server: {"pid": ..., "born": ...})

The starter holds the other end of the pipe. When it closes it, or dies in whatever way, the process groups
that still live are ended. A process id that another process has got meanwhile is told by its start time."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys

import psutil

GRACE = 10.0


def main() -> int:
    """Read to the end, then end them."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    kept: list[psutil.Process] = []
    for line in sys.stdin:
        said = json.loads(line)
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(said["pid"])
            if process.create_time() == said["born"]:
                kept.append(process)
    left = [process for process in kept if process.is_running()]
    family = [child for process in left for child in _children(process)]
    for number, patience in ((signal.SIGTERM, GRACE), (signal.SIGKILL, GRACE)):
        left = [process for process in left if process.is_running()]
        for process in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)
        _, left = psutil.wait_procs(left, timeout=patience)
    for child in family:
        with contextlib.suppress(psutil.Error):
            child.kill()
    return 0


def _children(process: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return process.children(recursive=True)
    return []


if __name__ == "__main__":
    raise SystemExit(main())
