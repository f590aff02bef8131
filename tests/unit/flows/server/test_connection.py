"""The embedded server ends when its starter is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flows.server import connection as server


def test_a_server_whose_starter_was_killed_ends_by_itself(repo: Path) -> None:
    """The starter starts the watch in a child and is killed: the child must be gone soon after."""
    child = (
        "import os, sys; from flows.server.connection import end_with; print(os.getpid(), flush=True); "
        "end_with(int(sys.argv[1]))"
    )
    line = f"import os, subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}, str(os.getpid())])"
    with subprocess.Popen(
        [sys.executable, "-c", line], cwd=repo, stdout=subprocess.PIPE, text=True
    ) as starter:
        assert starter.stdout is not None
        watched = int(starter.stdout.readline())
        os.kill(watched, 0)  # it lives as long as its starter does
        starter.send_signal(signal.SIGKILL)
        starter.wait()
        assert starter.stdout.read() == ""  # end of file: the child holds the pipe as long as it lives


def test_a_living_starter_is_not_left(monkeypatch: pytest.MonkeyPatch) -> None:
    asleep: list[float] = []

    def sleep(seconds: float) -> None:
        asleep.append(seconds)
        if len(asleep) == 3:
            raise InterruptedError

    monkeypatch.setattr(server.time, "sleep", sleep)
    with pytest.raises(InterruptedError):
        server.end_with(os.getppid())
    assert asleep == [1, 1, 1]
