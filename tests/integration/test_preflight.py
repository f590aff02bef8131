"""What cannot work is refused by the command itself, before a server starts. Real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BASE = ("--set", "data.base=/etc")


def fade(repo: Path, *line: str) -> subprocess.CompletedProcess[str]:
    """The command in the repository, without the store that another test has put into the environment."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_TRACKING")}
    command = [sys.executable, "-m", "flows.cli", *line]
    return subprocess.run(
        command, cwd=repo, env=own, capture_output=True, text=True, check=False, timeout=100
    )


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (("run", "--target", "x", *BASE), "base: /etc/model_index.json is missing"),
        (("run", "--target", "x", "--set", "data.images=/etc"), "/etc/manifest.csv does not exist"),
        (("run", "--set", "data.judge=/etc"), "judge: /etc/config.json is missing"),
        (("run", "--set", "train.max_grad_norm=.inf"), "train.max_grad_norm"),
        (("run", "--set", "signing.private_key=no.pem"), "signing.private_key: no.pem does not exist"),
        (("release", *BASE), "base: /etc/model_index.json is missing"),
        (("bench", "--quick", *BASE), "base: /etc/model_index.json is missing"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_before_a_server_starts(
    repo: Path, tmp_path: Path, line: tuple[str, ...], says: str
) -> None:
    done = fade(repo, *line, "--runs-dir", str(tmp_path / "runs"))
    assert done.returncode in (1, 2) and says in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs" / "prefect").exists()


def test_a_foreign_database_is_refused_before_a_server_starts(repo: Path, tmp_path: Path) -> None:
    """The store is needed only at the end of a run, hours later."""
    (tmp_path / "mlflow.db").mkdir()
    done = fade(repo, "run", "--runs-dir", str(tmp_path))
    assert done.returncode == 1 and "mlflow.db is a folder. Next: move it away" in done.stderr, done.stderr
    assert not (tmp_path / "prefect").exists()
