"""MLflow's server with users. PostgreSQL is behind it; artifacts pass through it to S3, so that only it has
the bucket's keys.

    python -m flows.local_stack.mlflow_server HOST PORT [NAME ...]      (in a container)

NAME, FADE_HOST_NAMES: further host names that it answers to. Environment: FADE_MLFLOW_STORE and
FADE_MLFLOW_USERS (URLs of the two databases), FADE_MLFLOW_ADMIN_PASSWORD, MLFLOW_FLASK_SERVER_SECRET_KEY,
MLFLOW_ARTIFACTS_DESTINATION, and the AWS_ variables of the bucket.
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
from flows.local_stack.server import HOST, INSTALL, STAGE, Server, answers, make_private, write_private
from flows.server.host_check import LOOPBACK, NAMES

ADMIN, LOGIN_FILE = "admin", "auth.ini"
DEFAULT_PERMISSION = "EDIT"
"""A user's rights to what others made: read, add versions and decisions, tag; not delete or give away."""
CACHE_SECONDS = "30"
"""For so long a correct password is not hashed again (half a second a request); a removed user keeps access
meanwhile."""
SOURCES = (
    r"^(fade-[a-z]+:/[a-z]+$|models:/(m-[0-9a-f]{32}|[^/@:]+/\d+)$"
    r"|mlflow-artifacts:(//[\w.:-]+)?/(?!.*(\.\.|%)).*)$"
)
"""Sources of a version's files: another version, a logged model or this server's artifact store; no local
path, no other host. A record of ours without files has a source of its own (fade-request:/event)."""


@dataclass(frozen=True, repr=False)
class Login:
    """A user of MLflow."""

    name: str
    password: str

    def environment(self) -> dict[str, str]:
        """Variables that MLflow's clients read."""
        return {"MLFLOW_TRACKING_USERNAME": self.name, "MLFLOW_TRACKING_PASSWORD": self.password}


@dataclass(eq=False, repr=False, kw_only=True)
class Mlflow(Server):
    """One MLflow server. ``stores``: URLs of the tracking and of the users' database, with their passwords;
    ``s3``: the bucket's AWS_ variables."""

    port: int
    stores: tuple[str, str]
    artifacts: str
    s3: Mapping[str, str]
    admin_password: str
    session_key: str
    users: tuple[Login, ...] = ()
    workers: int = 2
    name = "mlflow"

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def command(self) -> list[str]:
        return server_command(HOST, self.port, self.workers)

    def environment(self) -> dict[str, str]:
        hosts = [f"{name}:{self.port}" for name in LOOPBACK]
        return {
            "HOME": str(self.folder),
            "MLFLOW_ARTIFACTS_DESTINATION": self.artifacts,
            "MLFLOW_FLASK_SERVER_SECRET_KEY": self.session_key,
            **self.s3,
            **server_settings(self.folder, self.stores[0], hosts, self.s3["AWS_ENDPOINT_URL_S3"]),
        }

    def prepare(self) -> None:
        if find_spec("flask_wtf") is None:
            what = "MLflow's users need Flask-WTF, which is not installed."
            raise ServerError(what, stage=STAGE, action=INSTALL)
        write_login_file(self.folder, self.stores[1], self.admin_password)

    def ready(self) -> bool:
        return answers(f"{self.url}/health")

    def initialize(self) -> None:
        for user in self.users:
            self.add_user(user)

    def add_user(self, user: Login) -> None:
        """Make a user, unless it exists. Raises ServerError."""
        import httpx

        admin = (ADMIN, self.admin_password)
        with httpx.Client(base_url=self.url, auth=admin, timeout=60.0, trust_env=False) as http:
            known = http.get("/api/2.0/mlflow/users/get", params={"username": user.name})
            if known.status_code == 200:
                return
            body = {"username": user.name, "password": user.password}
            created = http.post("/api/2.0/mlflow/users/create", json=body)
        if created.status_code != 200:
            what = f"MLflow refused to make the user {user.name} ({created.status_code})."
            raise ServerError(what, stage=STAGE, action=f"see {self.log}.")

    def summary(self) -> str:
        return f"MLflow   {self.url}  ({self.note})"


def server_settings(folder: Path, store: str, hosts: list[str], endpoint: str) -> dict[str, str]:
    """The server's environment without its secrets. ``hosts``: accepted Host headers, with the port."""
    origins = [f"{scheme}://{host}" for host in hosts for scheme in ("http", "https")]
    return {
        "MLFLOW_BACKEND_STORE_URI": store,
        "MLFLOW_SERVE_ARTIFACTS": "true",
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / LOGIN_FILE),
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(hosts),
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": ",".join(origins),
        "MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX": SOURCES,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # evaluations by language models, which we do not use
        "MLFLOW_S3_ENDPOINT_URL": endpoint,
    }


def write_login_file(folder: Path, database: str, password: str) -> Path:
    """MLflow's own configuration of logins, mode 0600."""
    settings = {
        "default_permission": DEFAULT_PERMISSION,
        "database_uri": database,
        "admin_username": ADMIN,
        "admin_password": password,
        "authorization_function": "mlflow.server.auth:authenticate_request_basic_auth",
        "auth_cache_ttl_seconds": CACHE_SECONDS,
    }
    lines = [f"{key} = {value.replace('%', '%%')}" for key, value in settings.items()]
    return write_private(folder / LOGIN_FILE, "\n".join(["[mlflow]", *lines, ""]))


def server_command(host: str, port: int, workers: int) -> list[str]:
    """The command line; every secret goes through the environment or a file."""
    address = ["--host", host, "--port", str(port), "--workers", str(workers)]
    return [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", *address]


def main(argv: list[str]) -> int:
    """Replace this process by the server."""
    host, port, names = argv[0], int(argv[1]), [*argv[2:], *os.environ.get(NAMES, "").split()]
    env = dict(os.environ)
    try:
        secrets = [env.pop(f"FADE_MLFLOW_{name}") for name in ("STORE", "USERS", "ADMIN_PASSWORD")]
        endpoint = env["AWS_ENDPOINT_URL_S3"]
    except KeyError as error:
        sys.stderr.write(f"{STAGE}: {error.args[0]} is not set. Next: see docs/team.md.\n")
        return 2
    store, users, password = secrets
    folder = make_private(Path(tempfile.mkdtemp(prefix="fade-mlflow-")))
    write_login_file(folder, users, password)
    settings = server_settings(folder, store, [f"{name}:{port}" for name in (*LOOPBACK, *names)], endpoint)
    command = server_command(host, port, int(env.get("MLFLOW_WORKERS", "2")))
    os.execve(command[0], command, {**env, **settings})
    return 0  # not reached


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
