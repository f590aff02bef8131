"""Where flows run: the embedded Prefect under the runs folder, or the server that the environment names."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fade.errors import OrchestrationError
from fade.files import SCARCE, disk_full, free_bytes, make_folder, storage_error
from tasks.environment import quiet

CONTACT_SECONDS = 20.0
ROOM = 16 << 20
"""Bytes that the embedded server's database and a run's records need at least."""


def prepare(runs: Path, *, verbose: bool = False, hub: bool = False) -> None:
    """Set the environment of every tool before any of them is imported. Variables that are set already win."""
    quiet(runs, hub=hub)
    home = {"PREFECT_HOME": str((runs / "prefect").absolute()), "PREFECT_LOGGING_LEVEL": "INFO" if verbose else "CRITICAL"}
    home["MLFLOW_LOGGING_LEVEL"] = "INFO" if verbose else "WARNING"
    logs = {"PREFECT_LOGGING_TO_API_ENABLED": "false"} if "PREFECT_API_URL" not in os.environ else {}
    for key, value in {**home, **logs}.items():
        os.environ.setdefault(key, value)


def import_ahead() -> None:
    """Import the slow libraries of the later stages while the embedded server starts in a process of its own."""

    def load() -> None:
        # An import that fails here fails again, with its message, where it is needed.
        import contextlib
        import importlib

        for name in ("great_expectations", "mlflow", "torch", "transformers", "diffusers"):
            with contextlib.suppress(Exception):
                importlib.import_module(name)

    threading.Thread(target=load, name="import-ahead", daemon=True).start()


def run(flow: Callable[..., Any], **arguments: Any) -> Any:
    """Run a flow here and now. Raises OrchestrationError, within a minute, when the named Prefect server does not answer."""
    reach()
    import httpx

    try:
        serve()
        return flow(**arguments)
    except (httpx.HTTPError, RuntimeError) as error:
        if _interrupted(error):
            raise KeyboardInterrupt from error
        home = Path(os.environ["PREFECT_HOME"])
        if free_bytes(home) < SCARCE:
            raise storage_error(error, home, "prefect") from error
        said = str(error) or type(error).__name__
        if isinstance(error, RuntimeError) and "prefect" not in said.lower() and "server" not in said.lower():
            raise
        action = "start it again; what was made so far is kept, and the same command continues."
        raise OrchestrationError(f"Prefect stopped answering: {said}.", stage="prefect", action=action) from error


def _interrupted(error: BaseException | None) -> bool:
    """True when it was Ctrl-C that brought the error about."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


def serve() -> None:
    """Start the embedded server, unless the settings name another.

    Ctrl-C is blocked in it: a terminal sends it to the whole group, and the server must hear how the run ended. It goes with
    our process. Raises StorageError when its folder has no room, OrchestrationError when it does not start.
    """
    from prefect.server.api.server import SubprocessASGIServer
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    if settings.api.url or not settings.server.ephemeral.enabled:
        return
    home = Path(os.environ["PREFECT_HOME"])
    make_folder(home)
    if free_bytes(home) < ROOM:
        raise disk_full(home, "prefect")
    server, failed = SubprocessASGIServer(), []

    def start() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # of this thread, hence of the process that it starts
        try:
            server.start()
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=start, name="prefect-server", daemon=True)
    thread.start()
    until = time.monotonic() + settings.server.ephemeral.startup_timeout_seconds
    while thread.is_alive():  # it restarts a server that ends at once, for ever
        thread.join(0.05)
        if time.monotonic() > until:
            server.stop()
            failed.append(TimeoutError(f"no answer after {settings.server.ephemeral.startup_timeout_seconds} s"))
            break
    if failed:
        action = f"see whether {home} can be written, or name a server in PREFECT_API_URL."
        raise OrchestrationError(f"the embedded server did not start: {failed[0]}.", stage="prefect", action=action) from failed[0]


def reach() -> None:
    """Raises OrchestrationError when PREFECT_API_URL names a server that does not answer or refuses us."""
    url = os.environ.get("PREFECT_API_URL")
    if not url:
        return
    import httpx

    auth = os.environ.get("PREFECT_API_AUTH_STRING")
    credentials = httpx.BasicAuth(*auth.split(":", 1)) if auth and ":" in auth else None
    action = "start the server, correct PREFECT_API_URL, or unset it to run without one."
    try:
        answer = httpx.get(f"{url.rstrip('/')}/admin/version", auth=credentials, timeout=CONTACT_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        what = f"no Prefect server answers at {url}: {error}."
        raise OrchestrationError(what, stage="prefect", action=action) from error
    if answer.status_code >= 400:
        raise OrchestrationError(f"the Prefect server at {url} answers {answer.status_code}.", stage="prefect", action=action)
