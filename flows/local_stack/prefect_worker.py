"""A worker of Prefect that starts each flow run as a process of its own on this machine."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass

from flows.local_stack.server import Server, isolated_environment, run_tool

NAME = "fade-team"


@dataclass(eq=False, repr=False)
class Worker(Server):
    """A process worker of the work pool ``pool``, which is made where it is missing. ``client``: addresses
    and logins of the servers, as environment variables."""

    pool: str
    client: Mapping[str, str]
    name = "worker"

    def command(self) -> list[str]:
        return _prefect("worker", "start", "--pool", self.pool, "--type", "process", "--name", NAME)

    def environment(self) -> dict[str, str]:
        own = {"PREFECT_HOME": str(self.folder / "home"), "PREFECT_WORKER_QUERY_SECONDS": "2"}
        return {**self.client, **own}

    def prepare(self) -> None:
        run_tool(
            _prefect("work-pool", "create", self.pool, "--type", "process", "--overwrite"),
            f"the work pool {self.pool} could not be made",
            "is Prefect's server up?",
            env=isolated_environment(self.environment()),
            cwd=self.folder,
            timeout=120,
        )

    def ready(self) -> bool:
        return self.group is not None and f"Worker '{NAME}' started!" in self.group.output()


def _prefect(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "prefect", *arguments]
