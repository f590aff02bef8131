"""What every server shares: a process group of its own, a log, a deadline to answer by, and an end that
leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from fade.errors import ServerError, StorageError
from tasks.launch.watchdog import Watchdog

STAGE = "team"
POLL = 0.1
GRACE = 20.0
"""Seconds that a server gets to end by itself before it is killed."""
HOST = "127.0.0.1"
# Our own settings and other people's servers must not reach a server that we start.
_FOREIGN = ("MLFLOW_", "PREFECT_", "AWS_", "DVC_", "PG", "WEED_", "FADE_")


class Server:
    """One server: started by `start`, there when ``ready()`` says so, gone after `stop`. Usable as a context
    manager."""

    name = "server"
    stop_signal = signal.SIGTERM

    def __init__(self, folder: Path, *, keeper: Watchdog | None = None) -> None:
        self.folder, self._keeper = folder, keeper
        self.process: subprocess.Popen[bytes] | None = None

    # What a server says about itself.

    def command(self) -> Sequence[str]:
        """Its command line. Everybody on the machine can read it: no secret belongs there."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """What its environment adds to ours."""
        return {}

    def ready(self) -> bool:
        """True when it answers. May raise OSError while it does not."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Before each start."""

    def settle(self) -> None:
        """After each start, when it answers: users, databases, buckets."""

    # Life.

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def start(self, timeout: float = 150.0) -> None:
        """Start and wait until it answers. Raises ServerError with the log's last line; then nothing of it
        runs."""
        make_private(self.folder)
        self.prepare()
        until = time.monotonic() + timeout
        self._launch()
        try:
            while not self._answers():
                self._check(until)
                time.sleep(POLL)
            self.settle()
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """TERM (or what the server takes for it), and KILL for whatever did not hear it."""
        if self.process is None:
            return
        family = self._family()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, self.stop_signal)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(GRACE)
        self._end(family)

    def kill(self) -> None:
        """As `stop`, without asking: what a power cut or the kernel's memory killer does."""
        if self.process is not None:
            self._end(self._family())

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def _launch(self) -> None:
        with self.log.open("ab") as stream:
            self.process = subprocess.Popen(
                list(self.command()),
                cwd=self.folder,
                env=clean(self.environment()),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
                **self.identity(),
            )
        if self._keeper is not None:
            self._keeper.watch(self.process.pid)

    def identity(self) -> dict[str, Any]:
        """``user`` and ``group`` of the process, when they are not ours."""
        return {}

    def _answers(self) -> bool:
        try:
            return self.ready()
        except OSError:
            return False

    def _check(self, until: float) -> None:
        assert self.process is not None
        status = self.process.poll()
        if status is not None:
            raise self._failed(f"it ended with status {status}: {self._last()}")
        if time.monotonic() > until:
            raise self._failed(f"no answer in time: {self._last()}")

    def _failed(self, why: str) -> ServerError:
        return ServerError(f"{self.name} did not start: {why}", stage=STAGE, action=f"see {self.log}.")

    def _last(self) -> str:
        lines = (
            self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            if self.log.is_file()
            else []
        )
        return lines[-1][:300] if lines else "it said nothing."

    def _family(self) -> list[psutil.Process]:
        assert self.process is not None
        with contextlib.suppress(psutil.Error):
            return psutil.Process(self.process.pid).children(recursive=True)
        return []

    def _end(self, family: list[psutil.Process]) -> None:
        assert self.process is not None
        with contextlib.suppress(
            ProcessLookupError
        ):  # the group outlives its leader as long as a child is in it
            os.killpg(self.process.pid, signal.SIGKILL)
        for member in family:  # those that have left the group, as PostgreSQL's do
            with contextlib.suppress(psutil.Error):
                member.kill()
        psutil.wait_procs(family, timeout=GRACE)
        self.process.wait()
        self.process = None


def clean(more: Mapping[str, str]) -> dict[str, str]:
    """Our environment without anybody's servers, without telemetry, and ``more``."""
    from tasks.launch.environment import NO_TELEMETRY

    ours = {key: value for key, value in os.environ.items() if not key.startswith(_FOREIGN)}
    return {**ours, **NO_TELEMETRY, "PYTHONUNBUFFERED": "1", "PYTHONPATH": _pythonpath(), **more}


def _pythonpath() -> str:
    """A server starts in its own folder and must find the same ``tasks`` as we did."""
    return os.pathsep.join(
        filter(None, [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")])
    )


def make_private(folder: Path) -> Path:
    """Make ``folder``, for this user only (for root: others may pass through, as PostgreSQL does not run as
    root). Raises StorageError."""
    mode = 0o711 if os.geteuid() == 0 else 0o700
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(mode)
    except OSError as error:
        action = "name another with --folder."
        raise StorageError(
            f"{folder} cannot be made: {error.strerror}.", stage=STAGE, action=action
        ) from error
    return folder


def write_private(path: Path, text: str) -> Path:
    """Write a file that only this user can read (0600), whole or not at all. Raises StorageError."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with os.fdopen(
            os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8"
        ) as stream:
            os.fchmod(stream.fileno(), 0o600)
            stream.write(text)
        os.replace(fresh, path)
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written: {error.strerror}.", stage=STAGE, action="name another with --folder."
        ) from error
    return path


def is_free(port: int) -> bool:
    """True when nobody listens on the port of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_ports(count: int, *, twin: int = 0) -> list[int]:
    """Free ports p, and p + twin free as well (gRPC servers of SeaweedFS listen 10000 above)."""
    found: list[int] = []
    for port in range(20000 + os.getpid() % 2000 * 10, 50000):
        if len(found) == count:
            return found
        if is_free(port) and (not twin or is_free(port + twin)):
            found.append(port)
    raise ServerError("this machine has no free ports.", stage=STAGE, action="end what holds them.")


def answers(url: str, *, status: int = 200, auth: tuple[str, str] | None = None) -> bool:
    """True when a GET of ``url`` answers ``status``, without any proxy."""
    import httpx

    try:
        return httpx.get(url, timeout=5.0, trust_env=False, auth=auth).status_code == status
    except httpx.HTTPError:
        return False


def retried(action: Callable[[], None], timeout: float, *errors: type[BaseException]) -> None:
    """Do ``action`` until it works. Raises its last error when the time is up."""
    until = time.monotonic() + timeout
    while True:
        try:
            return action()
        except errors:
            if time.monotonic() > until:
                raise
            time.sleep(POLL)
