"""Prefect's server with a password; PostgreSQL behind it, `flows.server.host_check` in front.

    python -m flows.local_stack.prefect_server HOST PORT [NAME ...]

NAME, FADE_HOST_NAMES: further host names that it answers to.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

from flows.local_stack.server import HOST, Server, answers
from flows.server.host_check import LOOPBACK, NAMES, HostCheckMiddleware


@dataclass(eq=False, repr=False)
class Prefect(Server):
    """One Prefect server. ``database``: postgresql+asyncpg://..., with its password; ``login``:
    ``user:password``."""

    port: int
    database: str
    login: str
    name = "prefect"

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/api"

    def command(self) -> list[str]:
        return [sys.executable, "-m", "flows.local_stack.prefect_server", HOST, str(self.port)]

    def environment(self) -> dict[str, str]:
        origins = f"http://{HOST}:{self.port},http://localhost:{self.port}"
        return {
            "HOME": str(self.folder),
            "PREFECT_HOME": str(self.folder / "home"),
            "PREFECT_API_DATABASE_CONNECTION_URL": self.database,
            "PREFECT_SERVER_API_AUTH_STRING": self.login,
            "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": origins,
            "PREFECT_UI_API_URL": self.url,
            "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(self.folder / "ui"),
        }

    def ready(self) -> bool:
        user, _, password = self.login.partition(":")
        return answers(f"{self.url}/health", auth=(user, password))

    def client_environment(self) -> dict[str, str]:
        """Variables that Prefect's clients read."""
        return {"PREFECT_API_URL": self.url, "PREFECT_API_AUTH_STRING": self.login}

    def summary(self) -> str:
        return f"Prefect  http://{HOST}:{self.port}"


def main(argv: list[str]) -> int:
    """Serve until SIGTERM."""
    host, port, names = argv[0], int(argv[1]), [*argv[2:], *os.environ.get(NAMES, "").split()]
    import uvicorn
    from prefect.server.api.server import create_app

    app = HostCheckMiddleware(create_app(final=True), (*LOOPBACK, *names))
    patience = {"timeout_keep_alive": 5, "timeout_graceful_shutdown": 3}
    uvicorn.run(app, host=host, port=port, log_level="warning", lifespan="on", **patience)  # type: ignore[arg-type]
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
