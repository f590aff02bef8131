"""A real `fade serve` with its embedded server: who gets in, what its runner executes, and that a folder has
one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import websockets

from tests.e2e.support import REPO, command, environment, fade
from tests.requested import entry, project
from tests.support import ends, forked

CRON = f"0 {(time.gmtime().tm_hour + 12) % 24} * * *"
"""Not now."""
STRANGER = 65534
FOREIGN_LOGIN = "ann:for-another-server"
pytestmark = pytest.mark.timeout(400)


class Scheduler:
    """A running `fade serve`; ``login`` from its file, as this user reads it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.runs, self.log = folder, folder / "runs", folder / "serve.log"
        self.file = self.runs / "serving.json"
        self.options = ["--params", str(folder / "params.yaml")]
        with self.log.open("wb") as stream:
            self.process = subprocess.Popen(
                command("serve", *self.options, runs=self.runs),
                cwd=REPO,
                env=environment(
                    {"PREFECT_API_AUTH_STRING": FOREIGN_LOGIN, "PREFECT_RUNNER_POLL_FREQUENCY": "1"}
                ),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        until(lambda: "serving at" in self.said or self.process.poll() is not None, 120)
        assert self.process.poll() is None, self.said
        record = json.loads(self.file.read_text())
        self.url, self.login = str(record["url"]), str(record["login"])
        self.family = psutil.Process(self.process.pid).children(recursive=True)

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """With the login. A server whose SQLite is busy answers 503, or not at all; what only reads is then
        sent once more."""
        user, _, password = self.login.partition(":")
        end = time.monotonic() + 60
        while True:
            reads = method == "GET"
            more: dict[str, Any] = {"timeout": 20} if reads else {"timeout": 60, "json": body or {}}
            try:
                answer = httpx.request(
                    method, f"{self.url}{path}", auth=(user, password), trust_env=False, **more
                )
            except httpx.ReadTimeout:
                if not reads or time.monotonic() > end:
                    raise
                continue
            if answer.status_code != 503 or time.monotonic() > end:
                break
            time.sleep(0.5)
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else None

    def deployment(self, name: str = "erase") -> Any:
        return next(one for one in self.ask("POST", "/deployments/filter") if one["name"] == name)

    def ended(self, run: str) -> Any:
        """The flow run as soon as it has ended."""
        final = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")

        def look() -> Any:
            one = self.ask("GET", f"/flow_runs/{run}")
            return one if one["state_type"] in final else None

        return until(look, 200)


def until(holds: Callable[[], Any], seconds: float) -> Any:
    end = time.monotonic() + seconds
    while not (value := holds()):
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.2)
    return value


@pytest.fixture(scope="module")
def scheduler() -> Iterator[Scheduler]:
    """In a folder that every account may enter and read: the modes of the files alone protect them."""
    above = Path(tempfile.mkdtemp(prefix="fade-serving-"))
    above.chmod(0o755)
    # its one request fails at once: there is no data to pull
    folder = project(above / "team", entry("p1"), erase_cron=CRON, reevaluate_cron="", audit_cron="")
    one = None
    try:
        one = Scheduler(folder)
        yield one
    finally:
        if one is not None and one.process.poll() is None:
            os.killpg(one.process.pid, signal.SIGCONT)
            one.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                one.process.wait(60)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(one.process.pid, signal.SIGKILL)
        shutil.rmtree(above, ignore_errors=True)


def requests_of_a_stranger(scheduler: Scheduler) -> list[tuple[str, str, Any]]:
    """Reading, changing and starting."""
    one = scheduler.deployment()["id"]
    return [
        ("GET", "/admin/version", None),
        ("GET", "/openapi.json", None),
        ("POST", "/deployments/filter", {}),
        ("GET", f"/deployments/{one}", None),
        ("PATCH", f"/deployments/{one}", {"entrypoint": "/tmp/evil.py:evil"}),
        ("DELETE", f"/deployments/{one}", None),
        ("POST", f"/deployments/{one}/create_flow_run", {}),
        ("POST", "/flow_runs/filter", {}),
        ("POST", "/logs/filter", {}),
        ("POST", "/block_documents/filter", {}),
    ]


SOCKETS = (
    "/events/in",
    "/events/out",
    "/logs/out",
    "/task_runs/subscriptions/scheduled",
    "/work_pools/cpu/workers/connect",
)


def attack(url: str, attempts: list[tuple[str, str, Any]]) -> list[str]:
    """What got in without the login or with another; empty when nothing did."""
    got_in = []
    for auth in (None, ("fade", "wrong"), ("fade", ""), ("", "")):
        for method, path, body in attempts:
            status = httpx.request(
                method, f"{url}{path}", auth=auth, json=body, timeout=30, trust_env=False
            ).status_code
            if status != 401:
                got_in.append(f"{method} {path} {auth}: {status}")
    return got_in


async def knock(url: str, token: str | None, *, first: str = "auth") -> str:
    """The type of the answer to a web socket's login; ``closed`` when the server closes it."""
    try:
        async with websockets.connect(
            url, subprotocols=[websockets.Subprotocol("prefect")], proxy=None
        ) as socket:
            await socket.send(json.dumps({"type": first, "token": token}))
            return str(json.loads(await asyncio.wait_for(socket.recv(), 20))["type"])
    except websockets.WebSocketException:
        return "closed"


def test_no_request_without_the_login_gets_in(scheduler: Scheduler) -> None:
    before = scheduler.deployment()
    assert attack(scheduler.url, requests_of_a_stranger(scheduler)) == []
    after = scheduler.deployment()
    assert after["entrypoint"] == before["entrypoint"]
    assert httpx.get(f"{scheduler.url}/health", trust_env=False).status_code == 200, "open, as Prefect's"
    version = httpx.get(
        f"{scheduler.url}/admin/version", auth=tuple(FOREIGN_LOGIN.split(":")), trust_env=False
    )
    assert version.status_code == 401, "the user's login for another server is none here"


def test_host_and_origin_are_checked_before_the_login(scheduler: Scheduler) -> None:
    auth = httpx.BasicAuth(*scheduler.login.split(":"))
    for headers, status in (
        ({"Host": "evil.example"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({}, 200),
    ):
        answer = httpx.get(f"{scheduler.url}/admin/version", headers=headers, auth=auth, trust_env=False)
        assert answer.status_code == status, headers


@pytest.mark.parametrize("path", SOCKETS)
def test_a_web_socket_without_the_login_is_closed(scheduler: Scheduler, path: str) -> None:
    url = scheduler.url.replace("http://", "ws://") + path
    for token in (None, "", "fade:wrong", FOREIGN_LOGIN):
        assert asyncio.run(knock(url, token)) == "closed"
    assert asyncio.run(knock(url, scheduler.login, first="filter")) == "closed"


def test_a_web_socket_with_the_login_is_let_in(scheduler: Scheduler) -> None:
    url = scheduler.url.replace("http://", "ws://") + "/events/in"
    assert asyncio.run(knock(url, scheduler.login)) == "auth_success"


def test_the_login_is_in_no_command_line_and_in_one_file(scheduler: Scheduler) -> None:
    assert scheduler.file.stat().st_mode & 0o777 == 0o600
    secret = scheduler.login.partition(":")[2]
    for process in (psutil.Process(scheduler.process.pid), *scheduler.family):
        assert secret not in " ".join(process.cmdline())
    files = [path for path in scheduler.folder.rglob("*") if path.is_file()]
    assert [path for path in files if secret.encode() in path.read_bytes()] == [scheduler.file]
    environments = [process.environ() for process in scheduler.family]
    held = [env for env in environments if secret in env.get("PREFECT_SERVER_API_AUTH_STRING", "")]
    assert held and not any(FOREIGN_LOGIN in env.values() for env in held)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another account")
def test_another_account_of_the_machine_gets_nowhere(scheduler: Scheduler) -> None:
    attempts, family = requests_of_a_stranger(scheduler), [scheduler.process.pid]
    family += [process.pid for process in scheduler.family]
    assert attack(scheduler.url, attempts[:1]) == [], "what an attack needs is imported"
    url = scheduler.url.replace("http://", "ws://") + "/events/in"

    def stranger() -> None:
        os.setgroups([])
        os.setgid(STRANGER)
        os.setuid(STRANGER)
        assert os.access(scheduler.folder / "params.yaml", os.R_OK), "the folder itself is no hindrance"
        for path in (scheduler.file, *(Path(f"/proc/{pid}/environ") for pid in family)):
            with pytest.raises(PermissionError):
                path.read_bytes()
        lines = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in family]
        assert scheduler.login.partition(":")[2].encode() not in b"".join(lines)
        assert attack(scheduler.url, attempts) == []
        assert asyncio.run(knock(url, None)) == "closed"

    assert forked(stranger) == 0


def test_a_second_scheduler_on_the_folder_is_refused_and_the_first_stays(scheduler: Scheduler) -> None:
    before = scheduler.file.read_text()
    second = fade("serve", *scheduler.options, runs=scheduler.runs)
    assert second.returncode == 1 and "Traceback" not in second.stderr, second.stderr
    assert f"is served by process {scheduler.process.pid}." in second.stderr
    assert scheduler.file.read_text() == before and scheduler.ask("GET", "/admin/version")


def test_another_process_joins_by_the_file(scheduler: Scheduler) -> None:
    done = fade(
        *("status", "--json", *scheduler.options),
        runs=scheduler.runs,
        env={"PREFECT_API_AUTH_STRING": FOREIGN_LOGIN},
    )
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)["prefect"]
    assert {one["name"] for one in shown["deployments"]} == {"erase", "nightly", "weekly"}
    assert scheduler.login.partition(":")[2] not in done.stdout + done.stderr


def test_a_run_works_and_its_events_arrive(scheduler: Scheduler) -> None:
    run = scheduler.ask("POST", f"/deployments/{scheduler.deployment()['id']}/create_flow_run")
    ended = scheduler.ended(run["id"])
    assert ended["state_type"] == "FAILED" and "p1: pull: " in ended["state"]["message"], ended["state"]
    wanted = {"filter": {"event": {"name": ["fade.request.failed"]}}}
    until(lambda: scheduler.ask("POST", "/events/filter", wanted)["events"], 60)


def test_a_deployment_that_was_changed_runs_nothing_and_says_so(scheduler: Scheduler, tmp_path: Path) -> None:
    mark, file = tmp_path / "executed", tmp_path / "evil.py"
    mark_it = f"from pathlib import Path; Path({str(mark)!r}).touch()"
    body = "from prefect import flow\n@flow(name='work-off')\ndef process_requests(**_):\n    pass\n"
    file.write_text(f"{mark_it}\n{body}")
    step = {"prefect.deployments.steps.run_shell_script": {"script": f"touch {mark}"}}
    one = scheduler.deployment()
    changes: list[dict[str, Any]] = [
        {"entrypoint": f"{file}:process_requests", "path": str(tmp_path)},
        {"entrypoint": one["entrypoint"], "pull_steps": [step]},
    ]
    for change in changes:
        scheduler.ask("PATCH", f"/deployments/{one['id']}", change)
        run = scheduler.ask("POST", f"/deployments/{one['id']}/create_flow_run")
        ended = scheduler.ended(run["id"])
        assert ended["state_type"] == "FAILED" and not mark.exists(), ended["state"]
        assert "the deployment work-off/erase was changed: " in ended["state"]["message"]
        assert f"run {ended['name']} refused: " in scheduler.said
    scheduler.ask("PATCH", f"/deployments/{one['id']}", {"path": one["path"], "pull_steps": []})


def test_a_worker_runs_our_flows_alone(scheduler: Scheduler, tmp_path: Path) -> None:
    """With what the record of a deployment may hold besides: pull steps, a command, an environment."""
    mark, file = tmp_path / "executed", tmp_path / "evil.py"
    file.write_text(f"from pathlib import Path; Path({str(mark)!r}).touch()\n")
    (tmp_path / "sitecustomize.py").write_text(file.read_text())
    home = {"prefect.deployments.steps.set_working_directory": {"directory": str(REPO)}}
    shell = {"prefect.deployments.steps.run_shell_script": {"script": f"touch {mark}"}}
    elsewhere = {"prefect.deployments.steps.set_working_directory": {"directory": str(tmp_path)}}
    ours = {
        "name": "pooled",
        "flow_id": scheduler.deployment()["flow_id"],
        "entrypoint": "flows/service/process_requests.py:process_requests",
        "pull_steps": [home],
        "work_pool_name": "cpu",
        "parameters": scheduler.deployment()["parameters"],
        "job_variables": {"env": {"PYTHONPATH": str(tmp_path)}, "command": f"touch {mark}"},
    }
    scheduler.ask("POST", "/work_pools/", {"name": "cpu", "type": "process"})
    line = [sys.executable, "-m", "flows.service.worker", "--pool", "cpu", "--run-once"]
    path = os.pathsep.join(filter(None, (str(REPO), os.environ.get("PYTHONPATH"))))
    server = {"PREFECT_API_URL": scheduler.url, "PREFECT_API_AUTH_STRING": scheduler.login}
    env = environment({**server, "PYTHONPATH": path, "PREFECT_HOME": str(tmp_path / "home")})

    def started() -> str:
        """A worker before its first poll has made itself known to the pool."""
        done = subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    runs = {}
    for name, change in {
        "ours": {},
        "entrypoint": {"entrypoint": f"{file}:process_requests"},
        "steps": {"pull_steps": [home, shell]},
        "folder": {"pull_steps": [elsewhere]},
    }.items():
        made = scheduler.ask("POST", "/deployments/", {**ours, "name": f"pooled-{name}", **change})
        runs[name] = scheduler.ask("POST", f"/deployments/{made['id']}/create_flow_run")["id"]
    said = started()
    ended = {name: scheduler.ended(run) for name, run in runs.items()}
    assert not mark.exists()
    assert ended["ours"]["state_type"] == "FAILED", ended["ours"]["state"]
    assert "p1: pull: " in ended["ours"]["state"]["message"], ended["ours"]["state"]
    for name in ("entrypoint", "steps", "folder"):
        assert ended[name]["state_type"] == "CRASHED"
        assert f"run {ended[name]['name']} refused: " in ended[name]["state"]["message"]
        assert f"run {ended[name]['name']} refused: " in said


def test_ticks_that_passed_while_it_was_stopped_are_one_run(scheduler: Scheduler) -> None:
    identity = scheduler.deployment()["id"]
    os.kill(scheduler.process.pid, signal.SIGSTOP)
    try:
        runs = []
        for minutes in range(5, 0, -1):
            at = (datetime.now(UTC) - timedelta(minutes=minutes)).isoformat()
            state = {"type": "SCHEDULED", "state_details": {"scheduled_time": at}}
            runs.append(scheduler.ask("POST", f"/deployments/{identity}/create_flow_run", {"state": state}))
    finally:
        os.kill(scheduler.process.pid, signal.SIGCONT)
    states = sorted(scheduler.ended(run["id"])["state_type"] for run in runs)
    assert states == ["CANCELLED"] * 4 + ["FAILED"]


def quiet(scheduler: Scheduler) -> None:
    """Until the scheduler has printed nothing for two seconds: a run that failed prints its traceback after
    its state is known."""
    printed = -1
    while printed != (printed := len(scheduler.said)):
        time.sleep(2)


def test_it_stops_clean(scheduler: Scheduler) -> None:
    quiet(scheduler)
    family, before = psutil.Process(scheduler.process.pid).children(recursive=True), len(scheduler.said)
    scheduler.process.send_signal(signal.SIGTERM)
    assert scheduler.process.wait(15) == 0, scheduler.said[-3000:]
    assert all(ends(process) for process in family) and not scheduler.file.exists()
    assert "Traceback" not in scheduler.said[before:]
