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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from fade.errors import ServerError
from flows.local_stack import server
from flows.local_stack.server import HOST, STAGE, Account, Server
from flows.server.host_check import LOOPBACK, host_names

ADMIN, LOGIN_FILE = "admin", "auth.ini"
SOURCES = (
    r"^(fade-[a-z]+:/[a-z]+$|models:/(m-[0-9a-f]{32}|[^/@:]+/\d+)$"
    r"|mlflow-artifacts:(//[\w.:-]+)?/(?!.*(\.\.|%)).*)$"
)
"""Sources of a version's files: another version, a logged model or this server's artifact store; no local
path, no other host. A record of ours without files has a source of its own (fade-request:/event)."""


@dataclass(eq=False, repr=False, kw_only=True)
class Mlflow(Server):
    """One MLflow server. ``stores``: URLs of the tracking and of the users' database, with their passwords;
    ``s3``: the bucket's AWS_ variables, empty where the artifacts are a folder; ``hosts``: names in accepted
    Host headers."""

    port: int
    stores: tuple[str, str]
    artifacts: str
    s3: Mapping[str, str] = field(default_factory=dict)
    admin_password: str
    session_key: str
    users: tuple[Account, ...] = ()
    workers: int = 2
    bind: str = HOST
    hosts: Sequence[str] = LOOPBACK
    name = "mlflow"

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def client_environment(self, user: Account) -> dict[str, str]:
        """Variables that MLflow's clients read."""
        login = {"MLFLOW_TRACKING_USERNAME": user.name, "MLFLOW_TRACKING_PASSWORD": user.password}
        return {"MLFLOW_TRACKING_URI": self.url, **login}

    def command(self) -> list[str]:
        address = ["--host", self.bind, "--port", str(self.port), "--workers", str(self.workers)]
        return [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", *address]

    def environment(self) -> dict[str, str]:
        hosts = [f"{name}:{self.port}" for name in self.hosts]
        origins = [f"{scheme}://{host}" for host in hosts for scheme in ("http", "https")]
        return {
            **self.s3,
            "HOME": str(self.folder),
            "MLFLOW_BACKEND_STORE_URI": self.stores[0],
            "MLFLOW_ARTIFACTS_DESTINATION": self.artifacts,
            "MLFLOW_SERVE_ARTIFACTS": "true",
            "MLFLOW_S3_ENDPOINT_URL": self.s3.get("AWS_ENDPOINT_URL_S3", ""),
            "MLFLOW_FLASK_SERVER_SECRET_KEY": self.session_key,
            "MLFLOW_AUTH_CONFIG_PATH": str(self.folder / LOGIN_FILE),
            "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(hosts),
            "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": ",".join(origins),
            "MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX": SOURCES,
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # evaluations by language models; we have none
        }

    def prepare(self) -> None:
        if find_spec("flask_wtf") is None:
            what = "MLflow's users need Flask-WTF, which is not installed."
            raise ServerError(what, stage=STAGE, action=server.INSTALL)
        settings = {
            # rights to what others made: read, add versions and decisions, tag; not delete or give away
            "default_permission": "EDIT",
            "database_uri": self.stores[1],
            "admin_username": ADMIN,
            "admin_password": self.admin_password,
            "authorization_function": "mlflow.server.auth:authenticate_request_basic_auth",
            # so long a password is not hashed again (half a second a request), and a removed user has access
            "auth_cache_ttl_seconds": "30",
        }
        lines = [f"{key} = {value.replace('%', '%%')}" for key, value in settings.items()]
        server.write_private(self.folder / LOGIN_FILE, "\n".join(["[mlflow]", *lines, ""]))

    def initialize(self) -> None:
        for user in self.users:
            self.add_user(user)

    def add_user(self, user: Account) -> None:
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


def main(argv: list[str]) -> None:
    """Replace this process by the server."""
    ours = [f"FADE_MLFLOW_{name}" for name in ("STORE", "USERS", "ADMIN_PASSWORD")]
    theirs = ("MLFLOW_FLASK_SERVER_SECRET_KEY", "MLFLOW_ARTIFACTS_DESTINATION", "AWS_ENDPOINT_URL_S3")
    store, users, password, key, artifacts, endpoint = server.required_variables(*ours, *theirs)
    mlflow = Mlflow(
        folder=server.make_private(Path(tempfile.mkdtemp(prefix="fade-mlflow-"))),
        port=int(argv[1]),
        stores=(store, users),
        artifacts=artifacts,
        s3={"AWS_ENDPOINT_URL_S3": endpoint},
        admin_password=password,
        session_key=key,
        workers=int(os.environ.get("MLFLOW_WORKERS", "2")),
        bind=argv[0],
        hosts=host_names(argv[2:]),
    )
    mlflow.prepare()
    inherited = {name: value for name, value in os.environ.items() if name not in ours}
    command = mlflow.command()
    os.execve(command[0], command, {**inherited, **mlflow.environment()})


if __name__ == "__main__":
    raise SystemExit(server.exit_status(main))
