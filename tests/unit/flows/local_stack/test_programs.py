"""The programs of containers: what they need, and with what MLflow's server replaces them."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from flows.local_stack import mlflow_server, s3, server

NEEDED = {
    "FADE_MLFLOW_STORE": "postgresql://store",
    "FADE_MLFLOW_USERS": "postgresql://users",
    "FADE_MLFLOW_ADMIN_PASSWORD": "100%word",
    "MLFLOW_FLASK_SERVER_SECRET_KEY": "key",
    "MLFLOW_ARTIFACTS_DESTINATION": "s3://bucket/artifacts",
    "AWS_ENDPOINT_URL_S3": "http://s3:8333",
}


@pytest.mark.parametrize("program", [mlflow_server.main, s3.main], ids=["mlflow", "s3"])
def test_a_variable_that_is_missing_is_named(
    program: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (*NEEDED, "AWS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "argv", ["program", "0.0.0.0", "5000"])
    assert server.exit_status(program) == 2
    assert "is not set. Next: see docs/team.md." in capsys.readouterr().err


def test_mlflow_gets_its_secrets_by_file_and_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[list[str], dict[str, str]]] = []
    for name, value in {**NEEDED, "FADE_HOST_NAMES": "mlflow.team"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(mlflow_server, "find_spec", lambda name: name)
    monkeypatch.setattr(os, "execve", lambda path, command, env: calls.append((command, env)))
    mlflow_server.main(["0.0.0.0", "5000", "mlflow"])
    ((command, env),) = calls
    assert command[1:4] == ["-m", "mlflow", "server"] and "0.0.0.0" in command
    assert not [name for name in env if name.startswith("FADE_MLFLOW_")]
    assert env["MLFLOW_BACKEND_STORE_URI"] == NEEDED["FADE_MLFLOW_STORE"]
    hosts = env["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    assert hosts == [f"{name}:5000" for name in ("127.0.0.1", "localhost", "[::1]", "mlflow", "mlflow.team")]
    login = Path(env["MLFLOW_AUTH_CONFIG_PATH"])
    assert stat.S_IMODE(login.stat().st_mode) == 0o600 and "admin_password = 100%%word" in login.read_text()
