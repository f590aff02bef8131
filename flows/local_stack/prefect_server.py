"""Prefect: its server with a password, behind `flows.server.host_check` and on PostgreSQL; its worker.

    python -m flows.local_stack.prefect_server HOST PORT [NAME ...]

NAME, FADE_HOST_NAMES: further host names that it answers to.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flows.local_stack.server import HOST, Account, Server, isolated_environment, run_tool
from flows.server.connection import LEASES_ON_DISK
from flows.server.host_check import HostCheckMiddleware, host_names

WORKER = "fade-team"


@dataclass(eq=False, repr=False)
class Prefect(Server):
    """One Prefect server. ``database``: postgresql+asyncpg://..., with its password."""

    port: int
    database: str
    user: Account
    name = "prefect"

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/api"

    def client_environment(self) -> dict[str, str]:
        """Variables that Prefect's clients read."""
        login = f"{self.user.name}:{self.user.password}"
        return {"PREFECT_API_URL": self.url, "PREFECT_API_AUTH_STRING": login}

    def command(self) -> list[str]:
        return [sys.executable, "-m", "flows.local_stack.prefect_server", HOST, str(self.port)]

    def environment(self) -> dict[str, str]:
        origins = f"http://{HOST}:{self.port},http://localhost:{self.port}"
        return {
            "HOME": str(self.folder),
            "PREFECT_HOME": str(self.folder / "home"),
            "PREFECT_API_DATABASE_CONNECTION_URL": self.database,
            "PREFECT_SERVER_API_AUTH_STRING": f"{self.user.name}:{self.user.password}",
            "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": origins,
            "PREFECT_UI_API_URL": self.url,
            "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(self.folder / "ui"),
        }


@dataclass(eq=False, repr=False)
class Worker(Server):
    """A worker of the work pool ``pool``, which is made where it is missing; each flow run is a process.
    ``client``: addresses and logins of the servers, as environment variables."""

    pool: str
    client: Mapping[str, str]
    name = "worker"

    def command(self) -> list[str]:
        return [sys.executable, "-m", "flows.service.worker", "--pool", self.pool, "--name", WORKER]

    def environment(self) -> dict[str, str]:
        own = {"PREFECT_HOME": str(self.folder / "home"), "PREFECT_WORKER_QUERY_SECONDS": "2"}
        return {**self.client, **own}

    def prepare(self) -> None:
        command = _prefect("work-pool", "create", self.pool, "--type", "process", "--overwrite")
        what, action = f"the work pool {self.pool} could not be made", "is Prefect's server up?"
        env = isolated_environment(self.environment())
        run_tool(command, what, action, env=env, cwd=self.folder, timeout=120)

    def ready(self) -> bool:
        return self.group is not None and f"Worker '{WORKER}' started!" in self.group.output()


def _prefect(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "prefect", *arguments]


def main(argv: list[str]) -> None:
    """Serve until SIGTERM."""
    # in memory the leases of slots would go with the server, and the slots would stay taken for ever
    os.environ.setdefault(*LEASES_ON_DISK)
    import uvicorn
    from prefect.server.api.server import create_app

    app = HostCheckMiddleware(create_app(final=True), host_names(argv[2:]))
    patience: dict[str, Any] = {"timeout_keep_alive": 5, "timeout_graceful_shutdown": 3}
    uvicorn.run(app, host=argv[0], port=int(argv[1]), log_level="warning", lifespan="on", **patience)


if __name__ == "__main__":
    main(sys.argv[1:])
