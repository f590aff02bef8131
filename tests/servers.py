"""A team's servers for tests: started once for a module, on loopback, with passwords of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from flows.local_stack.s3 import WEED
from flows.local_stack.stack import LocalStack

needed = pytest.mark.skipif(not WEED.exists(), reason="the extra `team` is not installed")
REPO = Path(__file__).resolve().parents[1]
CLIENT = ("MLFLOW_", "PREFECT_API", "AWS_")


@contextmanager
def serving(folder: Path, *, worker: bool = False) -> Iterator[LocalStack]:
    """All servers, from here to the end of the block."""
    team = LocalStack(folder, worker=worker)
    team.start()
    try:
        yield team
    finally:
        for server in team.servers.values():
            server.kill()  # their data are thrown away: no need to wait while they put them in order
        team.stop()


@contextmanager
def client(team: LocalStack, **changes: str) -> Iterator[None]:
    """This process as a member of the team sees the servers: by environment variables alone. Everything is
    put back."""
    old = dict(os.environ)
    for key in [key for key in os.environ if key.startswith(CLIENT)]:
        del os.environ[key]
    os.environ.update({**team.environment, **changes})
    try:
        yield
    finally:
        import mlflow

        mlflow.set_tracking_uri(None)
        os.environ.clear()
        os.environ.update(old)


def get(url: str, **more: object) -> httpx.Response:
    """A GET without any proxy."""
    return httpx.get(url, timeout=30.0, trust_env=False, **more)  # type: ignore[arg-type]


def until(true: Callable[[], bool], timeout: float, what: str) -> None:
    """Wait for a condition; the test fails when it does not come true in time."""
    end = time.monotonic() + timeout
    while not true():
        if time.monotonic() > end:
            pytest.fail(f"{what}: not within {timeout:g} s")
        time.sleep(0.05)


class Colleague:
    """Somebody with a clone of their own on another path, an own HOME and runs folder.

    The servers' addresses and passwords are all that two of them have in common.
    """

    def __init__(self, at: Path, team: LocalStack, commit: str = "HEAD") -> None:
        self.clone, self.home, self.runs = at / "clone", at / "home", at / "runs"
        self.home.mkdir(parents=True)
        git = ["git", "-C", str(self.clone)]
        subprocess.run(
            ["git", "clone", "--quiet", "--no-checkout", str(REPO), str(self.clone)], check=True, timeout=300
        )
        # Without the embedded remote: the data must come from the team's. The tree counts as clean all the
        # same.
        subprocess.run(
            [*git, "sparse-checkout", "set", "--no-cone", "/*", "!/remote/"], check=True, timeout=60
        )
        subprocess.run([*git, "checkout", "--quiet", "--detach", commit], check=True, timeout=300)
        told = subprocess.run(
            [*git, "rev-parse", "HEAD"], check=True, timeout=60, capture_output=True, text=True
        )
        self.commit = told.stdout.strip()
        self._team = team

    def fade(self, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        """Run the clone's own command line, as `fade` does it, with ``changes`` to the environment."""
        line = [sys.executable, "-m", "flows.cli", *arguments, "--runs-dir", str(self.runs)]
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith((*CLIENT, "PREFECT_", "DVC_"))
        }
        env = {
            **kept,
            **self._team.environment,
            "HOME": str(self.home),
            "PYTHONPATH": str(self.clone),
            **changes,
        }
        return subprocess.run(line, cwd=self.clone, env=env, capture_output=True, text=True, timeout=900)
