"""Where flows run: the embedded Prefect under the runs folder, or the server that the environment names."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fade.errors import OrchestrationError
from tasks.environment import quiet

CONTACT_SECONDS = 20.0


def prepare(runs: Path, *, verbose: bool = False, hub: bool = False) -> None:
    """Set the environment of every tool before any of them is imported. Variables that are set already win."""
    quiet(runs, hub=hub)
    home = {"PREFECT_HOME": str((runs / "prefect").absolute()), "PREFECT_LOGGING_LEVEL": "INFO" if verbose else "CRITICAL"}
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
        return flow(**arguments)
    except (httpx.HTTPError, RuntimeError) as error:
        said = str(error) or type(error).__name__
        if isinstance(error, RuntimeError) and "prefect" not in said.lower() and "server" not in said.lower():
            raise
        action = "start it again; what was made so far is kept, and the same command continues."
        raise OrchestrationError(f"Prefect stopped answering: {said}.", stage="prefect", action=action) from error


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
