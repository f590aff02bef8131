"""The command line where its surroundings are odd: what it does is done all the same, without a traceback."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.e2e.support import REPO, Started, command, environment
from tests.requested import entry, project

DEAD_PROXY = "http://127.0.0.1:9"
"""Nothing listens there: a request that takes this way fails."""
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose one request fails at once: there is no data to pull. It starts an embedded server."""
    request = entry("p1", requested_by="Jörg ✓")
    return project(tmp_path_factory.mktemp("odd") / "team", request)


def test_no_stdin_dead_proxies_no_home_and_a_stdout_of_ascii(folder: Path) -> None:
    """All at once: each would hang the command, or end it with a traceback, by itself."""
    line = command("requests", "run", "--params", str(folder / "params.yaml"), runs=folder / "runs")
    closing = "import os, sys; os.close(0); os.execv(sys.argv[1], sys.argv[1:])"
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy"), DEAD_PROXY)
    env = environment({**proxies, "LC_ALL": "C", "PYTHONIOENCODING": "ascii"})
    for key in ("HOME", "NO_PROXY", "no_proxy", "USER", "LOGNAME"):
        env.pop(key, None)
    run = [sys.executable, "-c", closing, *line]
    done = subprocess.run(run, cwd=REPO, env=env, capture_output=True, text=True, timeout=200)
    assert done.returncode == 1 and "p1: pull: " in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    line = command("requests", "--params", str(folder / "params.yaml"), runs=folder / "runs")
    done = subprocess.run(line, cwd=REPO, env=env, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0 and "J\\xf6rg" in done.stdout, done.stdout + done.stderr


def test_ctrl_c_three_times_is_one_end(folder: Path, tmp_path: Path) -> None:
    run = Started(
        *("requests", "run", "p1", "--params", str(folder / "params.yaml")),
        runs=folder / "runs",
        log=tmp_path / "log",
    )
    try:
        end = time.monotonic() + 120
        while not run.family_runs("flows.server.connection"):
            assert run.process.poll() is None and time.monotonic() < end, run.said
            run.family = psutil.Process(run.process.pid).children(recursive=True)
            time.sleep(0.02)
        for _ in range(3):
            if run.process.poll() is None:
                run.signal(signal.SIGINT, group=True)
            time.sleep(0.15)
        assert run.end(30) == 1, run.said
        assert "Traceback" not in run.said and "stopped" in run.said, run.said
        assert run.left() == []
    finally:
        run.kill()


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/api", "http://[::1"])
def test_a_named_server_that_is_none_is_a_sentence(folder: Path, url: str) -> None:
    began = time.monotonic()
    line = command("requests", "run", "--params", str(folder / "params.yaml"), runs=folder / "runs")
    env = environment({"PREFECT_API_URL": url})
    done = subprocess.run(line, cwd=REPO, env=env, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1 and time.monotonic() - began < 60, done.stderr
    assert "Traceback" not in done.stderr and "PREFECT_API_URL" in done.stderr and "Next: " in done.stderr
