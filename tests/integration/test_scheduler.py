"""The scheduler on a real Prefect server: strict slots, served deployments, prefect.yaml on a worker, a
webhook when a request fails."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psutil
import pytest

from flows.service.schedule import UNUSED_CRON
from tests.e2e.support import REPO, environment, free_port, served
from tests.requested import entry, project

BIN = Path(sys.executable).parent
CRON = f"0 {(time.gmtime().tm_hour + 12) % 24} * * *"
"""Not now."""
pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


class Prefect:
    """A server, its settings for clients, and questions to it."""

    def __init__(self, url: str, home: Path) -> None:
        path = os.pathsep.join(part for part in (str(REPO), os.environ.get("PYTHONPATH", "")) if part)
        self.url, self.env = (
            url,
            environment({"PREFECT_API_URL": url, "PREFECT_HOME": str(home), "PYTHONPATH": path}),
        )
        self.env |= {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}

    def post(self, path: str, body: Any = None) -> Any:
        return self._ask("POST", path, json=body or {})

    def get(self, path: str) -> Any:
        return self._ask("GET", path)

    def _ask(self, method: str, path: str, **more: Any) -> Any:
        """A server whose SQLite is busy answers 503, which Prefect's own client asks again, too."""
        end = time.monotonic() + 60
        while True:
            answer = httpx.request(method, f"{self.url}{path}", timeout=60, trust_env=False, **more)
            if answer.status_code != 503 or time.monotonic() > end:
                break
            time.sleep(0.5)
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else None

    def run(
        self, *line: str, cwd: Path = REPO, timeout: float = 240, **more: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            line,
            cwd=cwd,
            env={**self.env, **more},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def flow_run(self, identity: str) -> Any:
        return self.get(f"/flow_runs/{UUID(identity)}")


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    home, port = tmp_path_factory.mktemp("prefect"), free_port()
    one = Prefect(f"http://127.0.0.1:{port}/api", home)
    env = {k: v for k, v in one.env.items() if k != "PREFECT_API_URL"} | {"PREFECT_UI_ENABLED": "false"}
    line = [str(BIN / "prefect"), "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with served(line, f"{one.url}/health", env, home / "server.log"):
        yield one


@pytest.fixture
def team(tmp_path: Path) -> Path:
    """A project whose one request fails at once: there is no data to pull."""
    return project(tmp_path / "team", entry("p1"), erase_cron=CRON, reevaluate_cron="", audit_cron="")


def until(holds: Callable[[], Any], seconds: float = 120) -> Any:
    end = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.3)
    return found


LIMIT = (
    "from fade.config import Params; from flows.server.gpu_slot import ensure_gpu_limit; "
    "ensure_gpu_limit(Params(), change=True)"
)
HOLD = """
import sys, time
from pathlib import Path
from fade.config import Params
from flows.server.gpu_slot import gpu_slot, gpu_slot_if_limited
with {"scheduled": gpu_slot, "by_hand": gpu_slot_if_limited}[sys.argv[2]](Params()):
    at = time.monotonic()
    time.sleep(2)
    Path(sys.argv[1]).write_text(f"{at} {time.monotonic()}")
"""


def test_a_slot_is_strict_and_one_gpu_is_held_by_one_process_at_a_time(
    prefect: Prefect, tmp_path: Path
) -> None:
    refused = prefect.run(sys.executable, "-c", HOLD, str(tmp_path / "none"), "scheduled")
    assert refused.returncode != 0 and "prefect gcl create fade-gpu --limit 1" in refused.stderr, (
        refused.stderr
    )
    assert not (tmp_path / "none").exists()
    free = prefect.run(
        sys.executable, "-c", HOLD, str(tmp_path / "none"), "by_hand"
    )  # nobody has asked for one at a time
    assert free.returncode == 0 and (tmp_path / "none").exists(), free.stderr

    made = prefect.run(sys.executable, "-c", LIMIT)
    assert made.returncode == 0, made.stderr
    lines = [
        [sys.executable, "-c", HOLD, str(tmp_path / name), how]
        for name, how in (("a", "scheduled"), ("b", "by_hand"))
    ]
    both = [subprocess.Popen(line, cwd=REPO, env=prefect.env) for line in lines]
    assert [one.wait(240) for one in both] == [0, 0]
    (first, second) = sorted([float(t) for t in (tmp_path / name).read_text().split()] for name in "ab")
    assert first[1] <= second[0], "the two held the one slot at once"


@contextlib.contextmanager
def listener() -> Iterator[tuple[str, list[Any]]]:
    """An HTTP server of loopback that keeps what is posted to it."""
    heard: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", heard
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


AUTOMATION = """
import sys
from prefect.automations import Automation
from prefect.blocks.webhook import Webhook
from prefect.events.actions import CallWebhook
from prefect.events.schemas.automations import EventTrigger
block = Webhook(url=sys.argv[1], method="POST").save("fade-failed", overwrite=True)
Automation(
    name="a request failed",
    trigger=EventTrigger(
        expect={"fade.request.failed"},
        match={"prefect.resource.id": "fade.request.*"},
        posture="Reactive",
        threshold=1,
    ),
    actions=[
        CallWebhook(
            block_document_id=block,
            payload='{"text": "request {{ event.resource.name }}: {{ event.payload.text }}"}',
        )
    ],
).create()
"""


def test_a_served_run_fails_visibly_and_calls_the_webhook_and_the_scheduler_stops_clean(
    prefect: Prefect, team: Path
) -> None:
    log = team / "serve.log"
    fade = [sys.executable, "-m", "flows.cli"]
    asked = ["--params", str(team / "params.yaml"), "--runs-dir", str(team / "runs")]
    with listener() as (url, heard), log.open("wb") as stream:
        hooked = prefect.run(sys.executable, "-c", AUTOMATION, url)
        assert hooked.returncode == 0, hooked.stderr
        serving = subprocess.Popen(
            [*fade, "serve", *asked],
            cwd=REPO,
            env=prefect.env,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
        try:
            until(lambda: "serving at" in log.read_text() and prefect.post("/deployments/filter"))
            (deployment,) = [one for one in prefect.post("/deployments/filter") if one["name"] == "erase"]
            assert [one["schedule"]["cron"] for one in deployment["schedules"]] == [CRON]
            run = prefect.post(f"/deployments/{deployment['id']}/create_flow_run")
            ended = until(
                lambda: (
                    (one := prefect.flow_run(run["id"]))["state_type"] in ("COMPLETED", "FAILED", "CRASHED")
                    and one
                ),
                240,
            )
            assert ended["state_type"] == "FAILED", log.read_text()[-3000:]
            assert "p1: pull: " in ended["state"]["message"], ended["state"]

            (artifact,) = prefect.post(
                "/artifacts/filter", {"artifacts": {"key": {"any_": ["fade-requests"]}}}
            )
            assert (
                json.loads(artifact["data"])[0]["state"] == "failed" and artifact["flow_run_id"] == run["id"]
            )
            until(lambda: heard, 60)
            assert heard[0]["text"].startswith("request p1: pull: "), heard

            scheduled = {
                "flow_runs": {
                    "state": {"type": {"any_": ["SCHEDULED"]}},
                    "deployment_id": {"any_": [deployment["id"]]},
                }
            }
            until(lambda: prefect.post("/flow_runs/filter", scheduled))
            done = prefect.run(*fade, "status", "--json", *asked)
            assert done.returncode == 0, done.stderr
            status = json.loads(done.stdout)
            (shown,) = [one for one in status["prefect"]["deployments"] if one["name"] == "erase"]
            assert (
                shown["last"][0]["state"] == "Failed"
                and "p1: pull" in shown["last"][0]["why"]
                and shown["waiting"]
            )
            assert (
                status["counts"] == {"failed": 1, "overdue": 0}
                and "pull: " in status["requests"][0]["detail"]
            )

            family = psutil.Process(serving.pid).children(recursive=True)
            serving.send_signal(signal.SIGTERM)
            assert serving.wait(60) == 0, log.read_text()[-3000:]
            until(
                lambda: not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in family),
                10,
            )
            (deployment,) = [one for one in prefect.post("/deployments/filter") if one["name"] == "erase"]
            assert deployment["paused"] is False  # another scheduler of this server goes on
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(serving.pid, signal.SIGKILL)
            serving.wait()


@pytest.fixture(scope="module")
def deployed(prefect: Prefect, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """`prefect deploy --all` in a project folder with the code, its own crons and a request that fails at
    once; name -> deployment."""
    folder = tmp_path_factory.mktemp("deployed") / "team"
    home = project(folder, entry("p1"), erase_cron=CRON, audit_cron="", timezone="Europe/Berlin")
    (home / "flows").symlink_to(REPO / "flows")  # a worker's project folder is a checkout
    shutil.copy(REPO / "prefect.yaml", home)
    for pool in ("cpu", "gpu"):
        made = prefect.run(str(BIN / "prefect"), "work-pool", "create", pool, "--type", "process")
        assert made.returncode == 0, made.stderr
    done = prefect.run(str(BIN / "prefect"), "--no-prompt", "deploy", "--all", cwd=home, FADE_HOME=str(home))
    assert done.returncode == 0, done.stdout + done.stderr
    made = prefect.run(sys.executable, "-c", LIMIT)
    assert made.returncode == 0, made.stderr
    found = {
        f"{prefect.get('/flows/' + one['flow_id'])['name']}/{one['name']}": one
        for one in prefect.post("/deployments/filter")
    }
    return {"home": home, **found}


def test_prefect_yaml_deploys_and_a_worker_of_its_pool_runs_it(
    prefect: Prefect, deployed: dict[str, Any]
) -> None:
    assert {"work-off/erase", "re-evaluate/nightly", "audit-registry/weekly", "run-job/gpu"} <= set(deployed)
    assert [deployed[name]["work_pool_name"] for name in ("work-off/erase", "run-job/gpu")] == ["cpu", "gpu"]
    erase, home = deployed["work-off/erase"], str(deployed["home"])
    assert erase["pull_steps"] == [{"prefect.deployments.steps.set_working_directory": {"directory": home}}]
    names = ("work-off/erase", "re-evaluate/nightly", "audit-registry/weekly")
    schedules = [one for name in names for one in deployed[name]["schedules"]]
    assert [(one["schedule"]["cron"], one["active"]) for one in schedules] == [
        (CRON, True),
        ("0 3 * * *", True),  # the default
        (UNUSED_CRON, False),  # an empty cron is never
    ]
    assert {one["schedule"]["timezone"] for one in schedules} == {"Europe/Berlin"}
    run = prefect.post(f"/deployments/{erase['id']}/create_flow_run")
    worked = prefect.run(
        str(BIN / "prefect"), "worker", "start", "--pool", "cpu", "--run-once", "--limit", "1", FADE_HOME=home
    )
    assert worked.returncode == 0, worked.stderr
    ended = until(
        lambda: (
            (one := prefect.flow_run(run["id"]))["state_type"] in ("COMPLETED", "FAILED", "CRASHED") and one
        )
    )
    assert ended["state_type"] == "FAILED" and "p1: pull: " in ended["state"]["message"], (
        worked.stdout[-3000:] + worked.stderr[-3000:]
    )


ELSEWHERE = """
import json, sys
from pathlib import Path
from fade.jobs.train import TrainJob
from tasks.launch.run_job import run_job
job = TrainJob.read(Path(sys.argv[1]))
reused = run_job(job, deadline=300, deployment=sys.argv[2])
print(json.dumps([str(job.out / "adapter.safetensors"), reused]))
"""


def test_a_training_is_sent_to_the_gpu_pool_and_its_adapter_is_taken(
    prefect: Prefect, deployed: dict[str, Any], tmp_path: Path
) -> None:
    from fade.models.loading import load_model
    from tests.integration.test_training import make_job
    from tests.support import make_tiny_base

    base = load_model(str(make_tiny_base(tmp_path / "base")), device="cpu")
    path = make_job(base, tmp_path / "out", steps=4, checkpoint_every=2, warmup=1).write()
    lost = prefect.run(sys.executable, "-c", ELSEWHERE, str(path), "train/nowhere")
    assert lost.returncode != 0 and "no deployment is called 'train/nowhere'" in lost.stderr, lost.stderr
    line = [str(BIN / "prefect"), "worker", "start", "--pool", "gpu", "--limit", "1"]
    log = tmp_path / "worker.log"
    with log.open("wb") as stream:
        worker = subprocess.Popen(
            line, cwd=tmp_path, env=prefect.env, stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        done = prefect.run(sys.executable, "-c", ELSEWHERE, str(path), "run-job/gpu", timeout=400)
        assert done.returncode == 0, done.stderr + log.read_text()
    finally:
        os.killpg(worker.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.wait(30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
    adapter, reused = json.loads(done.stdout.splitlines()[-1])
    assert Path(adapter).is_file() and reused is False
    again = prefect.run(
        sys.executable, "-c", ELSEWHERE, str(path), "run-job/gpu"
    )  # no worker is left: the finished one is found
    assert again.returncode == 0 and json.loads(again.stdout.splitlines()[-1])[1] is True, again.stderr
