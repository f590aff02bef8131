"""A small process that ends our children when this process is gone."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import psutil


class Watchdog:
    """A small process that ends our servers when we are gone, however we went (``kill -9`` as well). See
    `tasks.launch.watchdog_main`."""

    def __init__(self) -> None:
        line = [sys.executable, "-m", "tasks.launch.watchdog_main"]
        root = str(Path(__file__).resolve().parents[2])
        self._process = subprocess.Popen(
            line, stdin=subprocess.PIPE, cwd=root, start_new_session=True, text=True
        )

    def watch(self, pid: int) -> None:
        """From now on the process group of ``pid`` ends with us."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, psutil.Error):
            self._process.stdin.write(
                json.dumps({"pid": pid, "born": psutil.Process(pid).create_time()}) + "\n"
            )
            self._process.stdin.flush()

    def close(self) -> None:
        """End what is left of the servers, and the keeper."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.wait(60)
