"""MLflow's server with users: PostgreSQL behind it, artifacts handed through to S3, so that only the server
holds the bucket's keys.

    python -m flows.local_stack.mlflow_server HOST PORT [NAME ...]      (in a container)

NAME, FADE_HOST_NAMES: further names that it answers to. It takes from the environment:
FADE_MLFLOW_STORE and FADE_MLFLOW_USERS (URLs of the two databases), FADE_MLFLOW_ADMIN_PASSWORD,
MLFLOW_FLASK_SERVER_SECRET_KEY, MLFLOW_ARTIFACTS_DESTINATION, and the AWS_ variables of the bucket.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from fade.errors import ServerError
from flows.local_stack.supervised import HOST, STAGE, Server, answers, make_private, write_private
from flows.server.host_check import LOOPBACK, NAMES
from tasks.launch.watchdog import Watchdog

ADMIN, LOGIN = "admin", "auth.ini"
DEFAULT_PERMISSION = "EDIT"
"""What a user may do to what others made: read, add versions and decisions, tag; never delete it or give it
away."""
CACHED = "30"
"""Seconds that a password that was right is not hashed again (half a second a request); a user who was
removed gets in for that long."""
SOURCES = r"^(fade-[a-z]+:/[a-z]+$|models:/(m-[0-9a-f]{32}|[^/@:]+/\d+)$|mlflow-artifacts:(//[\w.:-]+)?/(?!.*(\.\.|%)).*)$"
"""Where a version's files may lie: in another version, a logged model or the artifact store of this server;
no local path, no other host. Or nowhere: a record of ours that has no files says so (fade-request:/event)."""


@dataclass(frozen=True)
class Login:
    """A user of MLflow."""

    name: str
    password: str

    def environment(self) -> dict[str, str]:
        """What MLflow's clients read."""
        return {"MLFLOW_TRACKING_USERNAME": self.name, "MLFLOW_TRACKING_PASSWORD": self.password}


class Mlflow(Server):
    """One MLflow server. ``stores``: URLs of the tracking and of the users' database, with their
    passwords."""

    name = "mlflow"

    def __init__(
        self,
        folder: Path,
        port: int,
        *,
        stores: tuple[str, str],
        artifacts: str,
        s3: Mapping[str, str],
        admin_password: str,
        session_key: str,
        users: tuple[Login, ...] = (),
        workers: int = 2,
        keeper: Watchdog | None = None,
    ) -> None:
        super().__init__(folder, keeper=keeper)
        self.port, self._stores, self._artifacts, self._s3 = port, stores, artifacts, dict(s3)
        self._admin, self._session_key, self._users, self._workers = (
            Login(ADMIN, admin_password),
            session_key,
            users,
            workers,
        )
        self.url = f"http://{HOST}:{port}"

    def command(self) -> list[str]:
        return line(HOST, self.port, self._workers)

    def environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.folder),
            "MLFLOW_ARTIFACTS_DESTINATION": self._artifacts,
            "MLFLOW_FLASK_SERVER_SECRET_KEY": self._session_key,
            **self._s3,
            **settings(
                self.folder,
                self._stores[0],
                [f"{name}:{self.port}" for name in LOOPBACK],
                self._s3["AWS_ENDPOINT_URL_S3"],
            ),
        }

    def prepare(self) -> None:
        if find_spec("flask_wtf") is None:
            what = "MLflow's users need Flask-WTF, which is not installed."
            raise ServerError(what, stage=STAGE, action="install the extra: `pip install -e .[team]`.")
        make_private(self.folder)
        write_login(self.folder, self._stores[1], self._admin.password)

    def ready(self) -> bool:
        return answers(f"{self.url}/health")

    def settle(self) -> None:
        for user in self._users:
            self.add(user)

    def add(self, user: Login) -> None:
        """Make a user, unless it is there. Raises ServerError."""
        import httpx

        admin = (self._admin.name, self._admin.password)
        with httpx.Client(base_url=self.url, auth=admin, timeout=60.0, trust_env=False) as http:
            if http.get("/api/2.0/mlflow/users/get", params={"username": user.name}).status_code == 200:
                return
            body = {"username": user.name, "password": user.password}
            made = http.post("/api/2.0/mlflow/users/create", json=body)
        if made.status_code != 200:
            what = f"MLflow refused to make the user {user.name} ({made.status_code})."
            raise ServerError(what, stage=STAGE, action=f"see {self.log}.")


def settings(folder: Path, store: str, hosts: list[str], endpoint: str) -> dict[str, str]:
    """The server's environment, beside its secrets. ``hosts``: what it answers to, with the port."""
    return {
        "MLFLOW_BACKEND_STORE_URI": store,
        "MLFLOW_SERVE_ARTIFACTS": "true",
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / LOGIN),
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(hosts),
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": ",".join(
            f"{scheme}://{host}" for host in hosts for scheme in ("http", "https")
        ),
        "MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX": SOURCES,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # evaluations by language models: nothing of ours
        "MLFLOW_S3_ENDPOINT_URL": endpoint,
    }


def write_login(folder: Path, database: str, password: str) -> Path:
    """MLflow's own file of how users log in, for this user's eyes only."""
    said = {
        "default_permission": DEFAULT_PERMISSION,
        "database_uri": database,
        "admin_username": ADMIN,
        "admin_password": password,
        "authorization_function": "mlflow.server.auth:authenticate_request_basic_auth",
        "auth_cache_ttl_seconds": CACHED,
    }
    lines = [f"{key} = {value.replace('%', '%%')}" for key, value in said.items()]
    return write_private(folder / LOGIN, "\n".join(["[mlflow]", *lines, ""]))


def line(host: str, port: int, workers: int) -> list[str]:
    """The command; every secret goes through the environment or a file."""
    address = ["--host", host, "--port", str(port), "--workers", str(workers)]
    return [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", *address]


def main(argv: list[str]) -> int:
    """Become the server."""
    host, port, names = argv[0], int(argv[1]), [*argv[2:], *os.environ.get(NAMES, "").split()]
    given = dict(os.environ)
    try:
        store, users, password = (
            given.pop(f"FADE_MLFLOW_{name}") for name in ("STORE", "USERS", "ADMIN_PASSWORD")
        )
        endpoint = given["AWS_ENDPOINT_URL_S3"]
    except KeyError as error:
        sys.stderr.write(f"{STAGE}: {error.args[0]} is not set. Next: see docs/team.md.\n")
        return 2
    folder = make_private(Path(tempfile.mkdtemp(prefix="fade-mlflow-")))
    write_login(folder, users, password)
    known = settings(folder, store, [f"{name}:{port}" for name in (*LOOPBACK, *names)], endpoint)
    command = line(host, port, int(given.get("MLFLOW_WORKERS", "2")))
    os.execve(command[0], command, {**given, **known})
    return 0  # not reached


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
