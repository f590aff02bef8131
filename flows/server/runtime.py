"""Where flows run: the embedded Prefect under the runs folder, or the server that the environment names."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

from fade.errors import FadeError, OrchestrationError
from fade.utils.files import SCARCE, disk_full, free_bytes, make_folder, storage_error
from tasks.launch.environment import configure_environment
from tasks.launch.process_group import process_tree, stop_processes
from tasks.registry.connection import redacted

CONTACT_SECONDS = 20.0
SERVING = "serving.json"
"""In the runs folder: where the embedded server of a `fade serve` answers."""
MAKING_SECONDS = 60.0
"""How long another server's making of the database is waited for."""
STOP_GRACE = 5.0
"""Seconds between TERM and KILL for the embedded server."""
ROOM = 16 << 20
"""Bytes that the embedded server's database and a run's records need at least."""


def prepare(runs: Path, *, verbose: bool = False, hub: bool = False) -> None:
    """Set the environment of every tool before any of them is imported. Variables that are set already
    win."""
    configure_environment(runs, hub=hub)
    home = {
        "PREFECT_HOME": str((runs / "prefect").absolute()),
        "PREFECT_LOGGING_LEVEL": "INFO" if verbose else "CRITICAL",
    }
    home["MLFLOW_LOGGING_LEVEL"] = "INFO" if verbose else "WARNING"
    logs = {"PREFECT_LOGGING_TO_API_ENABLED": "false"} if "PREFECT_API_URL" not in os.environ else {}
    for key, value in {**home, **logs}.items():
        os.environ.setdefault(key, value)


def start() -> None:
    """Start the embedded server, which takes some seconds, before the caller imports what its flow needs.

    Raises OrchestrationError when the named Prefect server does not answer, StorageError when the embedded
    one has no room."""
    reach()
    serve()


def run(
    flow: Callable[..., Any],
    *,
    within: Callable[[], AbstractContextManager[Any]] = nullcontext,
    **arguments: Any,
) -> Any:
    """Run a flow here and now. Raises OrchestrationError, within a minute, when the named Prefect server does
    not answer.

    within: entered around the flow where the server is one that the settings name, not our own.
    """
    reach()
    serve()
    import httpx

    try:
        if _server is not None:
            _server.wait()
            return flow(**arguments)
        with within():
            return flow(**arguments)
    except (httpx.HTTPError, RuntimeError) as error:
        if _interrupted(error):
            raise KeyboardInterrupt from error
        home = Path(os.environ["PREFECT_HOME"])
        if free_bytes(home) < SCARCE:
            raise storage_error(error, home, "prefect") from error
        answer = str(error) or type(error).__name__
        named = any(word in answer.lower() for word in ("prefect", "server"))
        if isinstance(error, RuntimeError) and not named:
            raise
        action = "start it again; what was made so far is kept, and the same command continues."
        raise OrchestrationError(
            f"Prefect stopped answering: {answer}.", stage="prefect", action=action
        ) from error


def _interrupted(error: BaseException | None) -> bool:
    """True when it was Ctrl-C that brought the error about."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


class Server:
    """The embedded server, a process of ours (``flows.server.connection``)."""

    patience = 20.0
    """Seconds that it has to answer: Prefect's default, until its settings could be asked."""

    def __init__(self, home: Path, *, whole: bool = False) -> None:
        self._home, self._answered = home, False
        self._making = _make_alone(home, time.monotonic() + MAKING_SECONDS)
        with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
            fd, self.url = listening.fileno(), f"http://127.0.0.1:{listening.getsockname()[1]}/api"
            line = [
                sys.executable,
                "-m",
                "flows.server.connection",
                str(fd),
                str(os.getpid()),
                *(["whole"] if whole else []),
            ]
            self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed by stop)
            self._process = subprocess.Popen(
                line, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, pass_fds=[fd]
            )
        self._begun = time.monotonic()
        atexit.register(self.stop)

    def wait(self) -> None:
        """Until it answers. Raises OrchestrationError when it ended instead, or its time is up."""
        import httpx

        while not self._answered:
            if self._process.poll() is not None:
                self._log.seek(0)
                lines = self._log.read().decode(errors="replace").strip().splitlines()
                raise self._failed(lines[-1] if lines else f"it ended with status {self._process.returncode}")
            if time.monotonic() > self._begun + self.patience:
                raise self._failed("no answer in time")
            with contextlib.suppress(httpx.HTTPError):
                self._answered = (
                    httpx.get(f"{self.url}/health", timeout=1.0, trust_env=False).status_code == 200
                )
        if self._making is not None:
            with contextlib.suppress(OSError):  # a full disk: the next server makes sure again
                _stamp(self._home).touch()
            self._let_go()

    def _failed(self, why: str) -> FadeError:
        if free_bytes(self._home) < SCARCE:
            return disk_full(self._home, "prefect")
        action = f"see whether {self._home} can be written, or name a server in PREFECT_API_URL."
        return OrchestrationError(
            f"the embedded server did not start: {why}.", stage="prefect", action=action
        )

    def stop(self) -> None:
        """TERM, and KILL after STOP_GRACE seconds."""
        if self._process.poll() is None:
            stop_processes(process_tree(self._process.pid), grace=STOP_GRACE)
        self._process.wait()
        self._log.close()
        self._let_go()
        atexit.unregister(self.stop)

    def _let_go(self) -> None:
        """Of the lock, if it is held: the next server may start."""
        if self._making is not None:
            self._making.close()
            self._making = None


def _stamp(home: Path) -> Path:
    """Says that this version's database was whole once."""
    return home / f"made-{version('prefect')}"


def _make_alone(home: Path, until: float) -> IO[str] | None:
    """The lock under which the database is made, held until the server answers; None when it is made already.

    Of two servers that make it at once one ends with an error. A lock that is not free in time is not waited
    for any longer."""
    if _stamp(home).exists():
        return None
    try:
        lock = (home / "making.lock").open("w", encoding="ascii")
    except OSError:
        return None  # the server will say what is wrong with its folder
    while time.monotonic() < until:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            time.sleep(0.1)
    if _stamp(home).exists():
        lock.close()
        return None
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
        raise disk_full(home, "prefect")
    # It starts while Prefect is imported here, which is what the settings can be asked by: they seldom name
    # another server.
    begun = Server(home, whole=whole)
    from prefect.context import refresh_global_settings_context
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    if settings.api.url or not settings.server.ephemeral.enabled:
        begun.stop()
        return
    begun.patience = settings.server.ephemeral.startup_timeout_seconds
    _server = begun
    os.environ["PREFECT_API_URL"] = _server.url
    refresh_global_settings_context()


def server_pid() -> int | None:
    """The process id of the embedded server; None when there is none."""
    return None if _server is None else _server._process.pid


def await_server() -> None:
    """Until the embedded server answers, where there is one. Raises OrchestrationError."""
    if _server is not None:
        _server.wait()


def join(runs: Path) -> bool:
    """Use the embedded server of the `fade serve` that works on this runs folder, if one does; False when
    none does."""
    if "PREFECT_API_URL" in os.environ:
        return True
    from fade.utils.files import read_json
    from tasks.requests.leases import has_exited

    answer = read_json(runs / SERVING)
    if not isinstance(answer, dict) or has_exited(answer["worker"]) is not False:
        return False
    os.environ["PREFECT_API_URL"] = answer["url"]
    return True


def announce(runs: Path) -> Path | None:
    """Write down where the embedded server is, for `join`; None when the settings name another."""
    if _server is None:
        return None
    from fade.utils.files import write_json
    from tasks.requests.leases import process_identity

    return write_json(runs / SERVING, {"url": _server.url, "worker": process_identity()})


def reach() -> None:
    """Raises OrchestrationError when PREFECT_API_URL names a server that does not answer or refuses us."""
    url = os.environ.get("PREFECT_API_URL")
    if not url or (_server is not None and url == _server.url):
        return
    import httpx

    auth = os.environ.get("PREFECT_API_AUTH_STRING")
    credentials = httpx.BasicAuth(*auth.split(":", 1)) if auth and ":" in auth else None
    action = "start the server, correct PREFECT_API_URL, or unset it to run without one."
    try:
        answer = httpx.get(f"{url.rstrip('/')}/admin/version", auth=credentials, timeout=CONTACT_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        what = f"no Prefect server answers at {redacted(url)}: {error}."
        raise OrchestrationError(what, stage="prefect", action=action) from error
    if answer.status_code in (401, 403):
        what = f"the Prefect server at {redacted(url)} refuses us ({answer.status_code})."
        raise OrchestrationError(
            what, stage="prefect", action="set PREFECT_API_AUTH_STRING to user:password."
        )
    if answer.status_code >= 400:
        raise OrchestrationError(
            f"the Prefect server at {redacted(url)} answers {answer.status_code}.",
            stage="prefect",
            action=action,
        )
