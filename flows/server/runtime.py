"""Where flows run: the embedded Prefect under the runs folder, or the server that the environment names."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import secrets
import socket
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fade.errors import BusyError, OrchestrationError
from fade.utils.files import SCARCE, disk_full, free_bytes, make_folder, read_json, storage_error
from fade.utils.locks import lock_folder
from flows.server.named_server import STAGE, check_named_server
from tasks.launch.environment import configure_environment, write_private
from tasks.launch.process_group import Group, answers

SERVING = "serving.json"
"""In the runs folder, for this user only: address and login of the embedded server of a `fade serve`."""
URL, LOGIN = "PREFECT_API_URL", "PREFECT_API_AUTH_STRING"
SERVER_LOGIN = "PREFECT_SERVER_API_AUTH_STRING"
OTHER_LOGINS = ("PREFECT_API_KEY", "PREFECT_CLIENT_CUSTOM_HEADERS")
"""What a client would send to a server besides LOGIN; the embedded server must not get them."""
USER = "fade"
CREATION_SECONDS = 60.0
"""How long another server's making of the database is waited for."""
STOP_GRACE = 5.0
"""Seconds between TERM and KILL for the embedded server."""
ROOM = 16 << 20
"""Bytes that the embedded server's database and a run's records need at least."""


def prepare(runs: Path, *, verbose: bool = False, hub: bool = False) -> None:
    """Set the environment of every tool before any is imported. Variables that are set already win."""
    configure_environment(runs, hub=hub)
    os.environ.setdefault("PREFECT_HOME", str((runs / "prefect").absolute()))
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "INFO" if verbose else "CRITICAL")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "INFO" if verbose else "WARNING")
    if "PREFECT_API_URL" not in os.environ:
        os.environ.setdefault("PREFECT_LOGGING_TO_API_ENABLED", "false")


def start(*, whole: bool = False) -> None:
    """Start the embedded server, see `serve`: it takes seconds, so call this before imports that are slow.
    Raises OrchestrationError when the named Prefect server does not answer."""
    reach()
    serve(whole=whole)


def run(
    flow: Callable[..., Any],
    *,
    within: Callable[[], AbstractContextManager[Any]] = nullcontext,
    **arguments: Any,
) -> Any:
    """Run a flow here and now; ``within`` is entered around it where the settings name the server. Raises
    OrchestrationError, within a minute, when that does not answer."""
    start()
    import httpx

    try:
        await_server()
        with within() if _server is None else nullcontext():
            return flow(**arguments)
    except Exception as error:
        if _interrupted(error):  # Prefect's engine may turn it into an error of its own
            raise KeyboardInterrupt from error
        if not isinstance(error, httpx.HTTPError | RuntimeError):
            raise
        home = Path(os.environ["PREFECT_HOME"])
        if free_bytes(home) < SCARCE:
            raise storage_error(error, home, STAGE) from error
        answer = str(error) or type(error).__name__
        named = any(word in answer.lower() for word in ("prefect", "server"))
        if isinstance(error, RuntimeError) and not named:
            raise
        what = f"Prefect stopped answering: {answer}."
        action = "start it again; what was made so far is kept, and the same command continues."
        raise OrchestrationError(what, stage=STAGE, action=action) from error


def _interrupted(error: BaseException | None) -> bool:
    """True when it was Ctrl-C that brought the error about."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


class Server:
    """The embedded server, a process of ours (``flows.server.connection``); it answers to ``login`` alone.

    The login is made at each start and handed over by environment variables, which other accounts of the
    machine cannot read."""

    patience = 20.0
    """Seconds that it has to answer: Prefect's default, until its settings could be read."""

    def __init__(self, home: Path, *, whole: bool = False) -> None:
        self._home, self._lock = home, creation_lock(home, CREATION_SECONDS)
        with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
            fd, self.url = listening.fileno(), f"http://127.0.0.1:{listening.getsockname()[1]}/api"
            mode = ["whole"] if whole else []
            command = [sys.executable, "-m", "flows.server.connection", str(fd), str(os.getpid()), *mode]
            self.login = f"{USER}:{secrets.token_urlsafe(32)}"
            inherited = {key: value for key, value in os.environ.items() if key not in (LOGIN, *OTHER_LOGINS)}
            env = {**inherited, SERVER_LOGIN: self.login}
            self.group = Group(command, log=home / "server.log", env=env, pass_fds=[fd])
        self._started = time.monotonic()
        atexit.register(self.stop)

    def wait(self) -> None:
        """Until it answers. Raises OrchestrationError when it ended instead, or its time is up."""
        patience = self._started + self.patience - time.monotonic()
        problem = self.group.await_ready(lambda: answers(f"{self.url}/health"), patience)
        if problem and free_bytes(self._home) < SCARCE:
            raise disk_full(self._home, STAGE)
        if problem:
            what = f"the embedded server did not start: {problem}"
            action = f"see whether {self._home} can be written, or name a server in PREFECT_API_URL."
            raise OrchestrationError(what, stage=STAGE, action=action)
        with contextlib.suppress(OSError):  # a full disk: the next server makes sure again
            creation_stamp(self._home).touch()
        self._lock.close()

    def stop(self) -> None:
        """TERM, and KILL after STOP_GRACE seconds."""
        self.group.stop(STOP_GRACE)
        self._lock.close()
        atexit.unregister(self.stop)


def creation_stamp(home: Path) -> Path:
    """A file that exists when this version's database was whole once."""
    return home / f"made-{version('prefect')}"


def creation_lock(home: Path, patience: float) -> ExitStack:
    """Closed when the server answers: the lock under which the database is made; nothing when it is made
    already.

    Of two servers that make it at once one ends with an error. A lock that is not free within ``patience``
    seconds is not waited for any longer."""
    lock = ExitStack()
    if not creation_stamp(home).exists():
        with contextlib.suppress(BusyError):
            busy = f"{home} is in use"
            lock.enter_context(lock_folder(home, busy, STAGE, name="making.lock", patience=patience))
        if creation_stamp(home).exists():
            lock.close()
    return lock


_server: Server | None = None


def serve(*, whole: bool = False) -> None:
    """Start the embedded server, unless it runs or the settings name another. Raises StorageError when its
    folder has no room.

    whole: with a scheduler's services, see `flows.server.connection`. Ours and not Prefect's own temporary
    server, which answers any Host, starts only when a flow does (measured: 1.5 to 4.5 s later), and of two
    that make one database lets one crash."""
    global _server
    if os.environ.get("PREFECT_API_URL"):
        return
    home = Path(os.environ["PREFECT_HOME"])
    make_folder(home)
    if free_bytes(home) < ROOM:
        raise disk_full(home, STAGE)
    # It starts while Prefect, which reads the settings, is imported here: they seldom name another server.
    server = Server(home, whole=whole)
    from prefect.context import refresh_global_settings_context
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    if settings.api.url or not settings.server.ephemeral.enabled:
        server.stop()
        return
    server.patience = settings.server.ephemeral.startup_timeout_seconds
    _server = server
    _use(server.url, server.login)
    refresh_global_settings_context()


def _use(url: str, login: str) -> None:
    """Have this process and its children use an embedded server; logins for other servers are left out."""
    for key in OTHER_LOGINS:
        os.environ.pop(key, None)
    os.environ |= {URL: url, LOGIN: login}


def server_pid() -> int | None:
    """The process id of the embedded server; None when there is none."""
    return None if _server is None else _server.group.pid


def await_server() -> None:
    """Until the embedded server answers, where there is one. Raises OrchestrationError."""
    if _server is not None:
        _server.wait()


def join(runs: Path) -> bool:
    """Use the embedded server of the `fade serve` on this runs folder; False when there is none, or it is
    another user's."""
    if os.environ.get(URL):
        return True
    from tasks.requests.leases import has_exited

    answer = read_json(runs / SERVING)
    if not isinstance(answer, dict):
        return False
    url, login, worker = (answer.get(key) for key in ("url", "login", "worker"))
    if not (isinstance(url, str) and isinstance(login, str) and isinstance(worker, dict)):
        return False
    if has_exited(worker) is not False:
        return False
    _use(url, login)
    return True


def announce(runs: Path) -> Path | None:
    """Write down where the embedded server is and its login, for `join`; None when the settings name
    another."""
    if _server is None:
        return None
    from tasks.requests.leases import process_identity

    record = {"url": _server.url, "login": _server.login, "worker": process_identity()}
    return write_private(runs / SERVING, json.dumps(record, indent=1) + "\n")


def reach() -> None:
    """Raises OrchestrationError when PREFECT_API_URL names a server that does not answer, refuses us, or is
    none of our Prefect's."""
    url = os.environ.get(URL)
    if url and not (_server is not None and url == _server.url):
        check_named_server(url, os.environ.get(LOGIN, ""))
