"""Runs against a team's servers: as two colleagues see them, through a worker, and while one server after the
other is killed."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows.local_stack.prefect_server import Worker
from flows.local_stack.server import isolated_environment
from flows.local_stack.stack import POOL, LocalStack, publish
from tasks.registry.connection import connect
from tests import servers
from tests.e2e.support import REPO, Started, fade, small

pytestmark = [pytest.mark.team, servers.needed]
REMOTE = "data.remote=team"
RUN = ("run", "--target", "panda", "--json", *small(REMOTE))
TOLD = tuple(word for word in RUN if word != "--json")
"""The same, and it says on stderr where it is."""


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    with servers.serving(tmp_path_factory.mktemp("team") / "servers") as team:
        publish(team)
        yield team


@pytest.fixture(scope="module")
def ann(
    team: LocalStack, tmp_path_factory: pytest.TempPathFactory
) -> tuple[servers.Colleague, dict[str, Any]]:
    """A colleague who has run the main job: her clone, and what it said."""
    ann = servers.Colleague(tmp_path_factory.mktemp("ann"), team)
    done = ann.fade(*RUN)
    assert done.returncode == 0, done.stderr
    return ann, json.loads(done.stdout)


@pytest.mark.timeout(900)
def test_a_run_with_all_servers_by_environment_alone(
    team: LocalStack, ann: tuple[servers.Colleague, dict[str, Any]], tmp_path: Path
) -> None:
    who, said = ann
    assert (who.clone / "data" / "base").is_dir() and not (
        who.clone / "remote"
    ).exists()  # it came through S3
    assert not (who.runs / "mlflow.db").exists()
    version = f"{said['model_name']}/{said['model_version']}"
    record = json.loads(who.fade("lineage", version, "--json").stdout)["lineage"]
    assert record["outputs"]["adapter_sha256"] == said["adapter_sha256"] and record["code"]["dirty"] is False
    flow_run = record["orchestration"]["flow_run_id"]
    user, _, word = team.environment["PREFECT_API_AUTH_STRING"].partition(":")
    assert (
        servers.get(f"{team.prefect.url}/flow_runs/{flow_run}", auth=(user, word)).json()["state_type"]
        == "COMPLETED"
    )
    for arguments in (
        ["verify", version],
        ["promote", version, "--by", "ann", "--override", "a test"],
        [
            "generate",
            "a panda",
            "--model",
            f"{said['model_name']}@champion",
            "--out",
            str(tmp_path / "x.png"),
            "--set",
            "sampler.steps=4",
        ],
    ):
        done = who.fade(*arguments)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "x.png").stat().st_size > 1000


@pytest.mark.timeout(1800)
def test_a_colleague_on_another_path_reproduces_it(
    team: LocalStack, ann: tuple[servers.Colleague, dict[str, Any]], tmp_path: Path
) -> None:
    _, said = ann
    bob = servers.Colleague(tmp_path, team, commit=ann[0].commit)
    record = json.loads(
        bob.fade("lineage", f"{said['model_name']}/{said['model_version']}", "--json").stdout
    )["lineage"]
    again = bob.fade(*RUN)
    assert again.returncode == 0, again.stderr
    mine = json.loads(again.stdout)
    same = (
        "adapter_sha256",
        "metrics",
        "data_md5",
        "base_sha256",
        "params_sha256",
        "model_name",
        "model_version",
    )
    assert {key: mine[key] for key in same} == {key: said[key] for key in same}
    assert record["outputs"]["adapter_sha256"] == mine["adapter_sha256"] and str(bob.clone) != str(
        ann[0].clone
    )
    audited = bob.fade("audit", f"{said['model_name']}/{said['model_version']}", "--by", "bob", "--json")
    assert audited.returncode == 0, audited.stderr + audited.stdout
    (found,) = json.loads(audited.stdout)
    assert (found["verdict"]["name"], found["control"], found["number"]) == ("identical", "different", 1)
    assert [
        one["by"] for one in json.loads(ann[0].fade("audits", str(said["model_name"]), "--json").stdout)
    ] == ["bob"]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"PREFECT_API_AUTH_STRING": "team:wr0ng-word"}, "PREFECT_API_AUTH_STRING"),
        ({"MLFLOW_TRACKING_PASSWORD": "wr0ng-word"}, "know us"),
    ],
)
def test_a_wrong_password_ends_with_a_sentence(
    ann: tuple[servers.Colleague, dict[str, Any]], changes: dict[str, str], says: str
) -> None:
    command = RUN if "PREFECT_API_AUTH_STRING" in changes else ("lineage", "fade-panda/1")
    done = ann[0].fade(*command, **changes)
    assert done.returncode == 1 and says in done.stderr and "wr0ng-word" not in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


# Servers that are killed.


@pytest.fixture(scope="module")
def calm(team: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The same run undisturbed, on the embedded MLflow and Prefect."""
    runs = tmp_path_factory.mktemp("calm")
    s3 = {key: value for key, value in team.environment.items() if key.startswith(("AWS_", "DVC_"))}
    done = fade(*RUN, runs=runs, env=s3)
    assert done.returncode == 0, done.stderr
    return runs, json.loads(done.stdout)


FAULTS = [
    ("mlflow", "train"),
    ("mlflow", "register"),
    ("prefect", "train"),
    ("postgres", "train"),
    ("s3", "register"),
]


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("name", "stage"), FAULTS, ids=[f"{name} at {stage}" for name, stage in FAULTS])
def test_a_server_that_is_killed_and_started_again_costs_no_evidence(
    team: LocalStack, calm: tuple[Path, dict[str, Any]], tmp_path: Path, name: str, stage: str
) -> None:
    calm_runs, said = calm
    runs = tmp_path / "runs"
    shutil.copytree(calm_runs / "cache", runs / "cache")
    with servers.client(team):
        _forget(runs)
    started = Started(*TOLD, runs=runs, log=tmp_path / "log", env=team.environment)
    try:
        started.reach(stage, lambda: True)
        server = team.servers[name]
        server.kill()
        again = threading.Thread(target=server.start)
        again.start()
        code = started.end(600)
        again.join()
    finally:
        started.kill()
    assert server.running()
    if code:
        said_so = started.said
        assert "Traceback" not in said_so and "Next: " in said_so, said_so
        done = fade(*RUN, runs=runs, env=team.environment)
        assert done.returncode == 0, done.stderr
    (adapter,) = runs.glob("erase/panda/*/adapter.safetensors")
    with servers.client(team):
        client = connect(runs).client
        (version,) = client.search_model_versions("name = 'fade-panda'")
        assert version.tags["adapter_sha256"] == said["adapter_sha256"] == _sha256(adapter)
        experiment = client.get_experiment_by_name("fade-erase")
        found = client.search_runs([experiment.experiment_id])
        assert [run.info.run_id for run in found if run.info.status == "FINISHED"] == [version.run_id]
        assert {run.info.status for run in found} <= {"FINISHED", "FAILED"}
        kept = {file.path for file in client.list_artifacts(version.run_id)}
        assert {
            "lineage.json",
            "evaluation.json",
            "report.html",
            "history.json",
            "pictures",
            "checks",
        } <= kept
        from tasks.registry.verify import verify

        assert verify("fade-panda/1", tmp_path / "elsewhere")


def _forget(runs: Path) -> None:
    """Empty the registry: the same run would be found there."""
    client = connect(runs).client
    for model in client.search_registered_models():
        if model.name.startswith("fade-panda"):
            client.delete_registered_model(model.name)
    experiment = client.get_experiment_by_name("fade-erase")
    for run in client.search_runs([experiment.experiment_id]) if experiment else []:
        client.delete_run(run.info.run_id)


def _sha256(path: Path) -> str:
    from fade.utils.hashing import sha256_of

    return sha256_of(path)


# A worker, and the end.


FOREIGN = """
from pathlib import Path
from prefect import flow

@flow
def probe(where: str) -> None:
    Path(where).touch()
"""
DEPLOYED = """
import json, sys
from prefect import flow
from prefect.deployments import run_deployment
source, entrypoint, pool, parameters = sys.argv[1:]
one = flow.from_source(source=source, entrypoint=entrypoint)
one.deploy("pooled", work_pool_name=pool, build=False, push=False, print_next_steps=False)
done = run_deployment(f"{one.name}/pooled", parameters=json.loads(parameters), timeout=240, poll_interval=1)
print(json.dumps([done.state.type.value, done.state.message]))
"""


@pytest.mark.timeout(600)
def test_the_worker_takes_our_flow_from_the_server_with_auth_and_refuses_another(
    team: LocalStack, tmp_path: Path
) -> None:
    (tmp_path / "probe.py").write_text(FOREIGN)
    env = isolated_environment({**team.environment, "PREFECT_HOME": str(tmp_path / "home")})

    def ended(source: Path, entrypoint: str, **parameters: str) -> list[str]:
        line = [sys.executable, "-c", DEPLOYED, str(source), entrypoint, POOL, json.dumps(parameters)]
        done = subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        answer: list[str] = json.loads(done.stdout.splitlines()[-1])
        return answer

    with Worker(tmp_path / "worker", POOL, team.environment):
        state, message = ended(tmp_path, "probe.py:probe", where=str(tmp_path / "out"))
        assert state == "CRASHED" and "refused: the deployment probe/pooled" in message
        assert not (tmp_path / "out").exists()
        where = {"params_file": str(REPO / "params.yaml"), "runs": str(tmp_path / "runs")}
        state, message = ended(REPO, "flows/service/schedule.py:audit_registry", **where)
        # it has read the team's registry, in which the tests before left versions, or none
        assert state == "COMPLETED" or "did not pass" in message or "no version" in message, message


@pytest.mark.timeout(600)
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL], ids=["told to end", "killed"])
def test_make_teams_servers_end_with_it_and_start_again_on_their_data(
    tmp_path: Path, end: signal.Signals
) -> None:
    line = [
        sys.executable,
        "-m",
        "flows.local_stack.stack",
        "--folder",
        str(tmp_path / "team"),
        "--no-worker",
        "--no-data",
    ]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            line, cwd=REPO, env=isolated_environment({}), stdout=log, stderr=log, start_new_session=True
        )
    try:
        servers.until(
            lambda: "Ctrl-C stops" in (tmp_path / "log").read_text() or process.poll() is not None,
            240,
            "the servers",
        )
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) > 4, (tmp_path / "log").read_text()
        secrets = (tmp_path / "team" / "secrets.json").read_text()
        process.send_signal(end)
        assert process.wait(120) == (0 if end == signal.SIGTERM else -signal.SIGKILL)
        servers.until(lambda: not any(map(_lives, family)), 60, "the end of them all")
    finally:
        if process.poll() is None:
            process.kill()
    for word in json.loads(secrets)["secrets"].values():
        assert word not in (tmp_path / "log").read_text()
    with LocalStack(tmp_path / "team", worker=False) as team, servers.client(team):
        assert connect(tmp_path / "runs").client.search_experiments()
        assert (tmp_path / "team" / "secrets.json").read_text() == secrets


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
