"""The supervisor of child processes: a process group each, a log, a deadline, and an end that leaves nothing.

The trainer, an audit's re-run, the local stack's servers, the runs of `fade serve` and the watchdog all end
through `stop_processes`: TERM, then KILL, to the process group and to every descendant, since a launcher's
workers and PostgreSQL's may have sessions of their own. Processes are known by process id and start time,
never by name. Prefect's task timeout does not stop a subprocess, hence the deadline here."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from fade.errors import TrainingError

GRACE = 10.0
"""Seconds between TERM and KILL."""
KILL_TIMEOUT = 20.0
"""Seconds that the kernel gets to remove killed processes (they may still write pages to a slow disk)."""
_POLL = 0.1


class Group:
    """A command that runs as a process group of its own; stdout and stderr go to ``log``. Raises OSError when
    it cannot be started. options: of subprocess.Popen (``cwd``, ``user``, ``pass_fds``)."""

    def __init__(self, command: Sequence[str], *, log: Path, env: Mapping[str, str], **options: Any) -> None:
        self._log, self._stopped = log, False
        with log.open("ab") as stream:
            self._log_start = stream.tell()
            streams: dict[str, Any] = {
                "stdin": subprocess.DEVNULL,
                "stdout": stream,
                "stderr": subprocess.STDOUT,
            }
            self._process: subprocess.Popen[bytes] = subprocess.Popen(
                list(command), env=dict(env), start_new_session=True, **streams, **options
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def runs(self) -> bool:
        """Whether it has not ended yet."""
        return self.status() is None

    def status(self) -> int | None:
        """The leader's exit status, -N after signal N; None while it runs."""
        return self._process.poll()

    def output(self) -> str:
        """What it has written to its log since it started; empty when the log is gone."""
        try:
            with self._log.open("rb") as stream:
                stream.seek(self._log_start)
                return stream.read().decode("utf-8", errors="replace")
        except OSError:
            return ""

    def await_ready(self, ready: Callable[[], bool], deadline: float) -> str:
        """Until ``ready()``; then empty. Else why it is not: it ended, or ``deadline`` seconds passed."""
        until = time.monotonic() + deadline
        while not ready():
            status = self.status()
            if status is not None or time.monotonic() > until:
                why = "no answer in time" if status is None else f"it ended with status {status}"
                return f"{why}: {last_line(self.output())}"
            time.sleep(_POLL)
        return ""

    def wait(self, deadline: float, tick: Callable[[], None] = lambda: None, stage: str = "train") -> int:
        """Until it ends; its exit status. ``tick`` is called as it runs.

        deadline: seconds from now after which the group is stopped and TrainingError raised. Whatever ends
        the wait, Ctrl-C included, ends the group."""
        until = time.monotonic() + deadline
        try:
            while self.runs():
                if time.monotonic() > until:
                    what = f"the deadline of {deadline:g} s passed and the processes were stopped."
                    action = "run it again (it resumes), or raise train.deadline_seconds."
                    raise TrainingError(what, stage=stage, action=action)
                tick()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(_POLL)
        finally:
            self.stop()
        tick()
        return self._process.wait()

    def stop(self, grace: float = GRACE, leader_signal: signal.Signals | None = None) -> None:
        """End the group and its leader's descendants, see `stop_processes`; once, as later its number may be
        another group's.

        leader_signal: instead of TERM to all, this signal to the leader, which ends its children in its own
        order (a database); KILL to what is left when it has ended or ``grace`` seconds have passed."""
        if self._stopped:
            return
        process = self._process
        with uninterrupted():
            members = (
                process_tree(process.pid) if process.returncode is None else []
            )  # else: another's, maybe
            if leader_signal is not None and process.poll() is None:
                process.send_signal(leader_signal)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(grace)
                grace = 0.0
            stop_processes(members, groups=[process.pid], grace=grace)
            process.wait()
            self._stopped = True


def stop_processes(
    processes: Iterable[psutil.Process], *, groups: Sequence[int] = (), grace: float = GRACE
) -> None:
    """TERM to the processes and the process groups, KILL to what is left of them after ``grace`` seconds.

    processes: with their descendants, see `process_tree`; one whose id belongs to another process by now is
    left alone. groups: ids of process groups, which outlive their leader as long as a child is in them. grace
    0: KILL at once. Ctrl-C and TERM to this process are ignored until they have ended."""
    members = list(processes)
    with uninterrupted():
        if grace > 0:
            _signal_all(members, groups, signal.SIGTERM)
            _wait_all(members, grace)
            members += [child for member in _living(members) for child in process_tree(member.pid)[1:]]
        _signal_all(members, groups, signal.SIGKILL)
        _wait_all(members, KILL_TIMEOUT)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Without Ctrl-C and TERM, for what ends by itself within seconds and leaves processes behind otherwise.
    Signals are the main thread's: no change in another."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def process_tree(pid: int) -> list[psutil.Process]:
    """The process and its descendants, of whatever group and session; empty when it is gone."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def answers(url: str) -> bool:
    """Whether a GET of ``url`` answers 200, without any proxy."""
    import httpx

    try:
        return httpx.get(url, timeout=5.0, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def last_line(output: str) -> str:
    """The last line that a process wrote, its error in the usual case: at most 300 characters."""
    lines = output.strip().splitlines()
    return lines[-1][:300] if lines else "it wrote nothing."


def _living(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those that still run; psutil compares start times, so a reused process id is not taken for one."""
    living = []
    for process in processes:
        with contextlib.suppress(psutil.Error):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                living.append(process)
    return living


def _signal_all(processes: Iterable[psutil.Process], groups: Sequence[int], number: signal.Signals) -> None:
    """Send a signal to each process once: through its group, or to itself when it is in another one."""
    others = []
    for process in _living(processes):
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(process.pid) not in groups:
                others.append(process)
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, number)
    for process in others:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)


def _wait_all(processes: Sequence[psutil.Process], seconds: float) -> None:
    until = time.monotonic() + seconds
    while _living(processes) and time.monotonic() < until:
        time.sleep(0.05)
