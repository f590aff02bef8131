"""The watchdog's process: ends process groups whose starter is gone.

    python -m tasks.launch.watchdog_main < (one JSON line per group: {"pid": ..., "create_time": ...})

The starter has the other end of the pipe. When it closes it or dies, the groups that still live are ended.
The start time tells a watched process from another one that has its id by now."""

from __future__ import annotations

import contextlib
import json
import signal
import sys

import psutil

from tasks.launch.process_group import process_tree, stop_processes


def main() -> int:
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
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
