"""MLflow's pages over a runs folder: one user with a password of this start, and an end without leftovers."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests import servers
from tests.e2e.support import REPO, environment, free_port
from tests.support import ends, forked

STRANGER = 65534
API = "/api/2.0/mlflow"
pytestmark = [servers.needed, pytest.mark.timeout(300)]


class Pages:
    def __init__(self, runs: Path, log: Path) -> None:
        self.runs, self.log, self.port = runs, log, free_port()
        self.line = [sys.executable, "-m", "flows.local_stack.ui", "--runs", str(runs)]
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                [*self.line, "--port", str(self.port)],
                cwd=REPO,
                env=environment(
                    {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
                ),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        end = time.monotonic() + 150
        while "Ctrl-C stops" not in self.said:
            assert self.process.poll() is None and time.monotonic() < end, self.said
            time.sleep(0.1)
        shown = re.search(r"(http://127\.0\.0\.1:\d+)  user (\w+)  password (\S+)", self.said)
        assert shown is not None
        self.url, self.user, self.password = shown.groups()
        self.family = psutil.Process(self.process.pid).children(recursive=True)

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def get(self, path: str, **more: object) -> httpx.Response:
        auth = httpx.BasicAuth(self.user, self.password)
        return httpx.get(f"{self.url}{path}", auth=auth, timeout=60, trust_env=False, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def pages() -> Iterator[Pages]:
    """In a folder that every account may enter: the modes of what is in it protect it."""
    above = Path(tempfile.mkdtemp(prefix="fade-ui-"))
    above.chmod(0o755)
    (above / "runs").mkdir(mode=0o755)
    one = None
    try:
        one = Pages(above / "runs", above / "log")
        yield one
    finally:
        if one is not None:
            one.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                one.process.wait(60)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(one.process.pid, signal.SIGKILL)
        subprocess.run(["rm", "-r", str(above)], check=False)


def attack(url: str) -> list[str]:
    """What got in without the password or with another; empty when nothing did."""
    got_in = []
    tag = {"name": "fade-panda", "key": "k", "value": "v"}
    attempts: list[tuple[str, str, dict[str, str] | None]] = [
        ("GET", "/", None),
        ("GET", f"{API}/registered-models/search", None),
        ("GET", f"{API}/experiments/search?max_results=5", None),
        ("POST", f"{API}/registered-models/create", {"name": "fade-panda"}),
        ("POST", f"{API}/registered-models/set-tag", tag),
        ("POST", f"{API}/users/create", {"username": "mallory", "password": "a-long-password"}),
        ("GET", "/ajax-api/2.0/mlflow/registered-models/search", None),
        ("POST", "/graphql", {"query": "{ __typename }"}),
    ]
    for auth in (None, ("admin", "password1234"), ("admin", "")):
        for method, path, body in attempts:
            status = httpx.request(
                method, f"{url}{path}", auth=auth, json=body, timeout=60, trust_env=False
            ).status_code
            if status not in (401, 403):
                got_in.append(f"{method} {path} {auth}: {status}")
    return got_in


def test_the_user_gets_in_and_nobody_else(pages: Pages) -> None:
    assert pages.get("/").status_code == 200
    assert pages.get(f"{API}/registered-models/search").json().get("registered_models", []) == []
    assert attack(pages.url) == []
    assert pages.get(f"{API}/registered-models/search").json().get("registered_models", []) == []


def test_a_foreign_host_is_refused(pages: Pages) -> None:
    assert pages.get("/", headers={"Host": "evil.example"}).status_code == 403
    origin = {"Origin": "http://evil.example", "Content-Type": "application/json"}
    url = f"{pages.url}{API}/registered-models/create"
    auth = (pages.user, pages.password)
    made = httpx.post(url, json={"name": "x"}, headers=origin, auth=auth, timeout=60, trust_env=False)
    assert made.status_code == 403


def test_the_password_is_in_no_command_line_and_in_private_files(pages: Pages) -> None:
    for process in (psutil.Process(pages.process.pid), *pages.family):
        assert pages.password not in " ".join(process.cmdline())
    files = [path for path in pages.runs.rglob("*") if path.is_file()]
    held = [path for path in files if pages.password.encode() in path.read_bytes()]
    assert [path.stat().st_mode & 0o777 for path in held] == [0o600]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another account")
def test_another_account_of_the_machine_gets_nowhere(pages: Pages) -> None:
    numbers = [pages.process.pid, *(process.pid for process in pages.family)]

    def stranger() -> None:
        os.setgroups([])
        os.setgid(STRANGER)
        os.setuid(STRANGER)
        private = [pages.runs / "ui" / "auth.ini", pages.runs / "ui" / "users" / "users.db"]
        for path in (*private, *(Path(f"/proc/{number}/environ") for number in numbers)):
            with pytest.raises(PermissionError):
                path.read_bytes()
        assert attack(pages.url) == []

    assert forked(stranger) == 0


def test_a_second_one_is_refused_by_name(pages: Pages) -> None:
    line = [*pages.line, "--port", str(free_port())]
    done = subprocess.run(line, cwd=REPO, env=environment(), capture_output=True, text=True, timeout=100)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"are shown by process {pages.process.pid}." in done.stderr


def test_a_taken_port_is_named(pages: Pages, tmp_path: Path) -> None:
    line = [sys.executable, "-m", "flows.local_stack.ui", "--runs", str(tmp_path), "--port", str(pages.port)]
    done = subprocess.run(line, cwd=REPO, env=environment(), capture_output=True, text=True, timeout=100)
    assert done.returncode == 1 and f"port {pages.port} is in use" in done.stderr, done.stderr


def test_ctrl_c_ends_all_its_processes(pages: Pages) -> None:
    family = psutil.Process(pages.process.pid).children(recursive=True)
    for _ in range(3):
        if pages.process.poll() is None:
            pages.process.send_signal(signal.SIGINT)
        time.sleep(0.2)
    assert pages.process.wait(40) == 0 and "Traceback" not in pages.said, pages.said
    assert all(ends(process) for process in family)
