"""The watchdog: a small process that ends this process's children when it is gone."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import psutil


class Watchdog:
    """A process that ends the watched process groups when this process ends, ``kill -9`` included.

    Protocol: one JSON line per process group on its stdin, see `tasks.launch.watchdog_main`; the end of the
    pipe, which the kernel closes with this process, starts the work."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tasks.launch.watchdog_main"],
            stdin=subprocess.PIPE,
            cwd=Path(__file__).resolve().parents[2],
            start_new_session=True,
            text=True,
        )

    def watch(self, pid: int) -> None:
        """From now on the process group that ``pid`` leads ends with this process."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, psutil.Error):
            line = json.dumps({"pid": pid, "create_time": psutil.Process(pid).create_time()})
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def close(self) -> None:
        """End what is left of the watched groups, and the watchdog."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.wait(60)
