"""Run a command as a process group of its own, under a deadline, and leave nothing of it behind.

Prefect's task timeout does not stop a subprocess, and a launcher's workers may sit in sessions of their own:
so the group is ours to end, and with it every process that descends from it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from fade.errors import TrainingError

GRACE = 10.0
"""Seconds between TERM and KILL."""
_POLL = 0.1


class Group:
    """A command that runs as a process group of its own; stdout and stderr go to ``log``. Raises OSError when
    it cannot be started."""

    def __init__(
        self, command: Sequence[str], *, log: Path, env: Mapping[str, str], cwd: Path | None = None
    ) -> None:
        self._stopped = False
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def runs(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def wait(self, deadline: float, tick: Callable[[], None] = lambda: None, stage: str = "train") -> int:
        """Until it ends; its exit status. ``tick`` is called as it runs.

        deadline: seconds from now after which the group is stopped and TrainingError raised. Whatever ends
        the wait, Ctrl-C included, ends the group."""
        until = time.monotonic() + deadline
        try:
            while self.runs():
                if time.monotonic() > until:
                    what = f"the deadline of {deadline:g} s passed and the processes were stopped."
                    raise TrainingError(
                        what,
                        stage=stage,
                        action="run it again (it resumes), or raise train.deadline_seconds.",
                    )
                tick()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(_POLL)
        finally:
            self.stop()
        tick()
        return self._process.wait()

    def stop(self) -> None:
        """See `stop_group`; once, as later its number may be another group's."""
        if not self._stopped:
            stop_group(self._process)
            self._stopped = True


def run_group(
    command: Sequence[str],
    *,
    deadline: float,
    log: Path,
    env: Mapping[str, str],
    tick: Callable[[], None] = lambda: None,
    stage: str = "train",
    cwd: Path | None = None,
    started: Callable[[int], None] = lambda pid: None,
) -> int:
    """Run ``command`` to its end and return its exit status, see `Group`; ``started`` is called once, with
    its process id."""
    group = Group(command, log=log, env=env, cwd=cwd)
    try:
        started(group.pid)
        return group.wait(deadline, tick, stage)
    finally:
        group.stop()


def stop_group(process: subprocess.Popen[bytes], grace: float = GRACE) -> None:
    """TERM to the group and its descendants, KILL to what is left of them after ``grace`` seconds."""
    family = _descendants(process.pid)
    _signal_group(process.pid, signal.SIGTERM)
    for member in _living(family):  # some sit in a session of their own and did not get the signal
        with contextlib.suppress(psutil.Error):
            member.terminate()
    until = time.monotonic() + grace
    while time.monotonic() < until and (process.poll() is None or _living(family)):
        time.sleep(0.05)
    _signal_group(process.pid, signal.SIGKILL)
    for member in _living(family):
        with contextlib.suppress(psutil.Error):
            member.kill()
    process.wait()


def _descendants(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        found: list[psutil.Process] = psutil.Process(pid).children(recursive=True)
        return found
    return []


def _living(family: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still run; psutil compares start times, so a reused process id is not taken for one of
    them."""
    out = []
    for member in family:
        with contextlib.suppress(psutil.Error):
            if member.is_running() and member.status() != psutil.STATUS_ZOMBIE:
                out.append(member)
    return out


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
