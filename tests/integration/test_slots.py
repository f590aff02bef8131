"""Slots of the GPU limit when Prefect's server is killed and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.e2e.support import REPO, environment, free_port
from tests.servers import until

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]
HOLD = """
import sys
from fade.config import Params
from flows.server.gpu_slot import ensure_gpu_limit, gpu_slot
ensure_gpu_limit(Params(), change=True)
with gpu_slot(Params()):
    print("held", flush=True)
    sys.stdin.readline()
print("work done", flush=True)
"""


def start_server(port: int, home: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "flows.local_stack.prefect_server", "127.0.0.1", str(port)]
    env = environment({"PREFECT_HOME": str(home), "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(home / "ui")})
    with (home / "log").open("ab") as log:
        server = subprocess.Popen(
            command, cwd=REPO, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    until(lambda: answers(port), 120, "the server's start")
    return server


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/api/health", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def taken(port: int) -> int:
    url = f"http://127.0.0.1:{port}/api/v2/concurrency_limits/fade-gpu"
    return int(httpx.get(url, timeout=30, trust_env=False).json()["active_slots"])


def test_a_server_that_is_killed_costs_no_work_and_its_slots_come_back(tmp_path: Path) -> None:
    port, home = free_port(), tmp_path / "prefect"
    home.mkdir()
    server = start_server(port, home)
    holder: subprocess.Popen[str] | None = None
    try:
        env = environment(
            {
                "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
                "PREFECT_HOME": str(tmp_path / "client"),
            }
        )
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLD],
            cwd=REPO,
            env={**env, "PYTHONPATH": str(REPO)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        assert taken(port) == 1
        os.kill(server.pid, signal.SIGKILL)
        server.wait()
        out, err = holder.communicate("\n", timeout=300)
        assert (holder.returncode, out) == (0, "work done\n"), err
        assert "Traceback" not in err
        server = start_server(port, home)
        assert taken(port) == 1, "the slot is taken until its lease ends"
        until(lambda: taken(port) == 0, 240, "the slot's return")
    finally:
        for process in (server, holder):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
