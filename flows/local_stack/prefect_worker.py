"""A worker of Prefect that starts each flow run as a process of its own on this machine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from fade.errors import ServerError
from flows.local_stack.supervised import STAGE, Server, clean
from tasks.launch.watchdog import Watchdog


class Worker(Server):
    """A process worker of the work pool ``pool``, which is made when it is not there. ``client``: addresses
    and logins of the servers."""

    name = "worker"

    def __init__(
        self, folder: Path, pool: str, client: Mapping[str, str], *, keeper: Watchdog | None = None
    ) -> None:
        super().__init__(folder, keeper=keeper)
        self.pool, self._client = pool, dict(client)

    def command(self) -> list[str]:
        return [
            sys.executable,
            "-m",
            "prefect",
            "worker",
            "start",
            "--pool",
            self.pool,
            "--type",
            "process",
            "--name",
            "fade-team",
        ]

    def environment(self) -> dict[str, str]:
        return {
            **self._client,
            "PREFECT_HOME": str(self.folder / "home"),
            "PREFECT_WORKER_QUERY_SECONDS": "2",
        }

    def prepare(self) -> None:
        line = [
            sys.executable,
            "-m",
            "prefect",
            "work-pool",
            "create",
            self.pool,
            "--type",
            "process",
            "--overwrite",
        ]
        done = subprocess.run(
            line, cwd=self.folder, env=clean(self.environment()), capture_output=True, text=True, timeout=120
        )
        if done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing."]
            raise ServerError(
                f"the work pool {self.pool} could not be made: {lines[-1]}",
                stage=STAGE,
                action="is Prefect's server up?",
            )

    def ready(self) -> bool:
        return self.log.is_file() and "Worker 'fade-team' started!" in self.log.read_text(
            encoding="utf-8", errors="replace"
        )
