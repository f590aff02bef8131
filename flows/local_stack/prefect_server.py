"""Prefect's server with a password, PostgreSQL behind it, and a guard in front (`flows.server.host_check`).

python -m flows.local_stack.prefect_server HOST PORT [NAME ...]     (NAME: further names that it answers to,
                                                                     as FADE_HOST_NAMES)
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from flows.local_stack.supervised import HOST, Server, answers
from flows.server.host_check import LOOPBACK, NAMES, HostCheckMiddleware
from tasks.launch.watchdog import Watchdog


class Prefect(Server):
    """One Prefect server. ``database``: postgresql+asyncpg://..., with its password; ``login``:
    ``user:password``."""

    name = "prefect"

    def __init__(
        self, folder: Path, port: int, *, database: str, login: str, keeper: Watchdog | None = None
    ) -> None:
        super().__init__(folder, keeper=keeper)
        self.port, self._database, self._login = port, database, login
        self.url = f"http://{HOST}:{port}/api"

    def command(self) -> list[str]:
        return [sys.executable, "-m", "flows.local_stack.prefect_server", HOST, str(self.port)]

    def environment(self) -> dict[str, str]:
        origins = f"http://{HOST}:{self.port},http://localhost:{self.port}"
        return {
            "HOME": str(self.folder),
            "PREFECT_HOME": str(self.folder / "home"),
            "PREFECT_API_DATABASE_CONNECTION_URL": self._database,
            "PREFECT_SERVER_API_AUTH_STRING": self._login,
            "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": origins,
            "PREFECT_UI_API_URL": self.url,
            "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(self.folder / "ui"),
        }

    def ready(self) -> bool:
        return answers(f"{self.url}/health", auth=login(self._login))

    def client(self) -> dict[str, str]:
        """What Prefect's clients read."""
        return {"PREFECT_API_URL": self.url, "PREFECT_API_AUTH_STRING": self._login}


def login(text: str) -> tuple[str, str]:
    """``user:password`` as a pair."""
    user, _, password = text.partition(":")
    return user, password


def main(argv: list[str]) -> int:
    """Serve until SIGTERM."""
    host, port, names = argv[0], int(argv[1]), [*argv[2:], *os.environ.get(NAMES, "").split()]
    import uvicorn
    from prefect.server.api.server import create_app

    app = HostCheckMiddleware(create_app(final=True), (*LOOPBACK, *names))
    uvicorn.run(
        app,
        host=host,
        port=port,
        log_level="warning",
        lifespan="on",
        timeout_keep_alive=5,
        timeout_graceful_shutdown=3,
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
