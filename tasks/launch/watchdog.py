"""The watchdog: a small process that ends its starter's children when the starter is gone (``kill -9``).

    python -m tasks.launch.watchdog < (one JSON line per process group: {"pid": ..., "create_time": ...})

The starter has the other end of the pipe. When it closes it or dies, the groups that still live are ended.
The start time tells a watched process from another one that has its id by now."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from tasks.launch.process_group import process_tree, stop_processes


class Watchdog:
    """The watchdog's process, as its starter holds it."""

    def __init__(self) -> None:
        command, home = [sys.executable, "-m", "tasks.launch.watchdog"], Path(__file__).resolve().parents[2]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, cwd=home, start_new_session=True, text=True)

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


def main() -> None:
    """Read stdin to its end, then end the groups."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    watched: list[psutil.Process] = []
    for line in sys.stdin:
        group = json.loads(line)
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(group["pid"])
            if process.create_time() == group["create_time"]:
                watched.append(process)
    leaders = [process.pid for process in watched if process.is_running()]
    stop_processes([member for pid in leaders for member in process_tree(pid)], groups=leaders)


if __name__ == "__main__":
    main()
