"""MLflow's server with users: PostgreSQL behind it, artifacts handed through to S3, so that only the server holds the bucket's keys."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from fade.errors import ServerError
from tasks.servers.process import HOST, STAGE, Keeper, Server, answers, make_private, write_private

ADMIN = "admin"
DEFAULT_PERMISSION = "EDIT"
"""What a user may do to what others made: read, add versions and decisions, tag; never delete it or give it away."""
CACHED = "30"
"""Seconds that a password that was right is not hashed again (half a second a request); a user who was removed gets in for that long."""
SOURCES = r"^(models:/(m-[0-9a-f]{32}|[^/@:]+/\d+)$|mlflow-artifacts:(//[\w.:-]+)?/(?!.*(\.\.|%)).*)$"
"""Where a version's files may lie: in another version, a logged model or the artifact store of this server. No local path, no other host."""


@dataclass(frozen=True)
class Login:
    """A user of MLflow."""

    name: str
    password: str

    def environment(self) -> dict[str, str]:
        """What MLflow's clients read."""
        return {"MLFLOW_TRACKING_USERNAME": self.name, "MLFLOW_TRACKING_PASSWORD": self.password}


class Mlflow(Server):
    """One MLflow server. ``stores``: URLs of the tracking and of the users' database, with their passwords."""

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
        keeper: Keeper | None = None,
    ) -> None:
        super().__init__(folder, keeper=keeper)
        self.port, self._stores, self._artifacts, self._s3 = port, stores, artifacts, dict(s3)
        self._admin, self._session_key, self._users, self._workers = Login(ADMIN, admin_password), session_key, users, workers
        self.url = f"http://{HOST}:{port}"

    def command(self) -> list[str]:
        address = ["--host", HOST, "--port", str(self.port), "--workers", str(self._workers)]
        return [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", *address]

    def environment(self) -> dict[str, str]:
        hosts = f"{HOST}:{self.port},localhost:{self.port}"
        return {
            "HOME": str(self.folder),
            "MLFLOW_BACKEND_STORE_URI": self._stores[0],
            "MLFLOW_SERVE_ARTIFACTS": "true",
            "MLFLOW_ARTIFACTS_DESTINATION": self._artifacts,
            "MLFLOW_AUTH_CONFIG_PATH": str(self.folder / "auth.ini"),
            "MLFLOW_FLASK_SERVER_SECRET_KEY": self._session_key,
            "MLFLOW_SERVER_ALLOWED_HOSTS": hosts,
            "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": f"http://{HOST}:{self.port},http://localhost:{self.port}",
            "MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX": SOURCES,
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # evaluations by language models: nothing of ours
            **self._s3,
            "MLFLOW_S3_ENDPOINT_URL": self._s3["AWS_ENDPOINT_URL_S3"],
        }

    def prepare(self) -> None:
        if find_spec("flask_wtf") is None:
            what = "MLflow's users need Flask-WTF, which is not installed."
            raise ServerError(what, stage=STAGE, action="install the extra: `pip install -e .[team]`.")
        make_private(self.folder)
        settings = {
            "default_permission": DEFAULT_PERMISSION,
            "database_uri": self._stores[1],
            "admin_username": self._admin.name,
            "admin_password": self._admin.password,
            "authorization_function": "mlflow.server.auth:authenticate_request_basic_auth",
            "auth_cache_ttl_seconds": CACHED,
        }
        lines = [f"{key} = {value.replace('%', '%%')}" for key, value in settings.items()]
        write_private(self.folder / "auth.ini", "\n".join(["[mlflow]", *lines, ""]))

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
