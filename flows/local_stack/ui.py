"""MLflow's pages over a runs folder, for one user: a password is made at each start.

    python -m flows.local_stack.ui --runs runs --port 5000

``make ui`` calls this. It listens on loopback, prints address, user and password, and waits; Ctrl-C or
SIGTERM stops it. Without a password every account of this machine could change tags and versions."""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from fade.errors import ServerError
from fade.utils.locks import lock_folder
from flows.local_stack import server
from flows.local_stack.mlflow_server import ADMIN, Mlflow
from tasks.launch.environment import open_standard_streams, private_folder
from tasks.launch.watchdog import Watchdog
from tasks.registry.connection import connect
from tasks.registry.database_file import ARTIFACTS

STAGE = "ui"
USERS = "users.db"
WATCH_SECONDS = 0.5
"""Between two checks that the server runs."""


class Ui(Mlflow):
    """An MLflow server over one runs folder; its only user is the admin."""

    def command(self) -> list[str]:
        return [*super().command(), "--default-artifact-root", self.artifacts]


def build(runs: Path, port: int) -> Ui:
    """The server of ``runs``, whose database is made where it is missing. Raises ServerError when the port is
    taken, StorageError, RegistryError."""
    if not server.is_free(port):
        action = f"stop what holds it, or name another: make ui PORT={port + 1}"
        raise ServerError(f"port {port} is in use.", stage=STAGE, action=action)
    for key in [key for key in os.environ if key.startswith("MLFLOW_TRACKING_")]:
        del os.environ[key]  # this folder's runs are shown, wherever new ones are recorded
    store, folder = connect(runs).uri, private_folder(runs.absolute() / "ui")
    users = private_folder(folder / "users") / USERS
    users.unlink(missing_ok=True)  # the password of the last start ended with it
    return Ui(
        folder=folder,
        port=port,
        stores=(store, f"sqlite:///{users}"),
        artifacts=str(runs.absolute() / ARTIFACTS),
        admin_password=secrets.token_urlsafe(24),
        session_key=secrets.token_urlsafe(32),
        workers=1,
    )


def main(argv: list[str]) -> None:
    """Start, print address and login once, wait for Ctrl-C or SIGTERM, stop."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.local_stack.ui",
        description=str(__doc__).split("\n")[0],
        epilog="Example: python -m flows.local_stack.ui --runs runs --port 5000",
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="the runs folder (default: runs)")
    parser.add_argument("--port", type=_port, default=5000, help="on 127.0.0.1 (default: 5000)")
    options = parser.parse_args(argv)
    open_standard_streams()
    for number in (signal.SIGTERM, signal.SIGINT):  # a background shell starts its jobs with SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    try:
        show(options.runs, options.port)
    except KeyboardInterrupt:
        _print("stopped.")


def _port(text: str) -> int:
    """A port that a browser can be given. Raises ArgumentTypeError."""
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text[:6]) <= 65535:
        raise argparse.ArgumentTypeError(f"{text[:20]!a} is no port from 1 to 65535")
    return int(text)


def show(runs: Path, port: int) -> None:
    """Serve until KeyboardInterrupt. Raises ServerError when the server does not start or ends by itself,
    BusyError when another process shows this folder, StorageError, RegistryError."""
    with ExitStack() as cleanup:
        folder = private_folder(runs.absolute() / "ui")
        cleanup.enter_context(lock_folder(folder, f"the pages of {runs} are shown", STAGE))
        pages = build(runs, port)
        pages.watchdog = Watchdog()
        cleanup.callback(pages.watchdog.close)
        cleanup.enter_context(pages)
        _print(f"{pages.url}  user {ADMIN}  password {pages.admin_password}")
        _print("The password is of this start alone. Ctrl-C stops.")
        while pages.running():
            time.sleep(WATCH_SECONDS)
        raise ServerError("MLflow ended by itself.", stage=STAGE, action=f"see {pages.log}.")


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(server.exit_status(main))
