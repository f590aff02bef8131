"""A twin of this process: forked when it has imported what a training uses, it waits to become the trainer.

On two cores a trainer's own imports, seven seconds of a core, are a fourth of all that a run does before it
trains; the twin shares this process's. Only where a fork is harmless: on Linux, with a torch that knows no
GPU, before there is a second Python thread. Elsewhere, and where the twin has died, a trainer is a process of
its own as ever. It ends when this process does, as its socket closes."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

NAME = "fade.training.worker"
"""What it is called among the processes (``ps -o comm``): its command line is this process's."""


class Twin:
    """The process, and what `tasks.launch.process_group` needs of one. Raises OSError when it cannot be
    made."""

    def __init__(self) -> None:
        ours, its = socket.socketpair()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()  # else it might write what is buffered here once more
        self.pid = os.fork()
        if not self.pid:
            _live(its)
        its.close()
        self._asks: socket.socket | None = ours
        self._end = os.pidfd_open(self.pid)  # readable when it has ended
        self.returncode: int | None = None

    def become(self, arguments: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        """The trainer with these arguments, as the leader of a process group of its own. Once. Raises
        OSError."""
        assert self._asks is not None
        with self._asks, log.open("ab") as stream:
            socket.send_fds(self._asks, [b"\n"], [stream.fileno()])
            self._asks.sendall(
                json.dumps({"arguments": list(arguments), "env": dict(env), "cwd": str(Path.cwd())}).encode()
            )
        self._asks = None

    def poll(self) -> int | None:
        """Its exit status, -N after signal N; None while it runs."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        """Until it ends; its exit status. Raises subprocess.TimeoutExpired."""
        status = self._ended(timeout)
        if status is None:
            raise subprocess.TimeoutExpired(NAME, timeout or 0)
        return status

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._end], [], [], timeout)[0]:
            try:
                self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            except (
                ChildProcessError
            ):  # whoever started this process has it forget its children; subprocess says 0 then, too
                self.returncode = 0
            os.close(self._end)
        return self.returncode

    def stop(self) -> None:
        """At once, while it waits still."""
        if self._asks is not None:
            self._asks.close()
            self._asks = None
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()


_twin: Twin | None = None


def harmless() -> bool:
    """Whether this process may be forked: nothing that it holds, a lock or a GPU, would be held by nobody in
    its twin."""
    if not sys.platform.startswith("linux") or threading.active_count() > 1:
        return False
    torch = sys.modules.get("torch")  # without it there is nothing to share
    return (
        torch is not None
        and torch.version.cuda is None
        and torch.version.hip is None
        and not torch.xpu.is_available()
    )


def make() -> None:
    """Make the twin, unless there is one, or it would do harm or cannot be made."""
    global _twin
    if _twin is None and harmless():
        with contextlib.suppress(OSError):
            _twin = Twin()
            atexit.register(end)


def end() -> None:
    """Stop the one that waits, if one does."""
    global _twin
    if _twin is not None:
        atexit.unregister(end)
        _twin.stop()
        _twin = None


def take(argv: Sequence[str], env: Mapping[str, str], log: Path) -> Twin | None:
    """The twin, become the process that ``argv`` names; None where none waits, or ``argv`` or ``env`` names
    another than it can be."""
    global _twin
    module = [sys.executable, "-m", NAME]
    if _twin is None or list(argv[: len(module)]) != module or not _fits(env):
        return None
    twin, _twin = _twin, None
    atexit.unregister(end)
    try:
        twin.become(argv[len(module) :], env, log)
    except OSError:  # killed for its memory, say
        twin.stop()
        return None
    return twin


def _fits(env: Mapping[str, str]) -> bool:
    """Whether torch's threads, counted when it was imported here, are as many as ``env`` asks for."""
    import torch

    return env.get("OMP_NUM_THREADS", "") in ("", str(torch.get_num_threads()))


def _live(asked: socket.socket) -> NoReturn:
    """The twin's life; Python's own end, with what was to be done when this process ends, is not for it."""
    status = 1
    try:
        os.setsid()  # from now on no terminal's Ctrl-C is for it
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for fd in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
            if (
                fd > 2 and fd != asked.fileno()
            ):  # other processes' pipes, which must close when this process closes them
                with contextlib.suppress(OSError):
                    os.close(fd)
        said, fds, _, _ = socket.recv_fds(asked, 1, 1)
        status = _train(asked, fds[0]) if said else 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _train(asked: socket.socket, log: int) -> int:
    """What a new process would have and do."""
    from fade.training import worker as trainer
    from fade.utils import parent

    with asked, asked.makefile("rb") as whole:
        job = json.loads(whole.read())
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)
    sys.stdout, sys.stderr = (
        os.fdopen(stream, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)
        for stream in (1, 2)
    )
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["env"])
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(NAME, encoding="ascii")
    parent.set_launcher()
    return trainer.main(job["arguments"])
