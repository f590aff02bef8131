"""A team's servers, the real ones: PostgreSQL, S3, MLflow and Prefect with passwords. What works with them,
and what they refuse."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from fade.config import PromotionPolicy
from fade.errors import AdapterError, BusyError, OrchestrationError, RegistryError
from fade.provenance.lineage import Lineage
from fade.utils.hashing import sha256_of
from flows.local_stack.server import Account
from flows.local_stack.stack import ARTIFACTS, DATA, LocalStack
from flows.server import runtime
from tasks.registry.connection import connect
from tasks.registry.decisions import decide, history
from tasks.registry.lineage import trace
from tasks.registry.models import ensure_model
from tasks.registry.register import Registered, register
from tasks.registry.runs import LOGGED
from tasks.registry.verify import verify
from tasks.registry.versions import load_version
from tasks.requests.leases import log_name, read_lease_log
from tests import servers
from tests.registered import finished_run

pytestmark = servers.needed
REPO = Path(__file__).resolve().parents[2]
GOOD = {"A_er": 100.0, "A_adj": 99.0, "A_heldout": 98.0, "A_rest": 99.0, "ERB": 99.5}
BASE = {"A_tar": 100.0, "A_adj": 100.0, "A_heldout": 100.0, "A_rest": 100.0}
COUNT = 4
RACE = """
import os, sys, time
from pathlib import Path
# Imported once: each process below is a fork of this one, which has opened no connection yet.
import mlflow.store.tracking.rest_store
from fade.config import PromotionPolicy
from fade.errors import FadeError
from tasks.registry import decisions
name, runs, folder, *versions = sys.argv[1:]
meeting, append, ids = Path(folder) / "meeting", decisions.append_decision, []

def at_once(*arguments):
    (meeting / str(os.getpid())).touch()
    end = time.monotonic() + 120
    while len(list(meeting.iterdir())) < len(versions):  # all have read the same chain
        assert time.monotonic() < end
        time.sleep(0.002)
    return append(*arguments)

decisions.append_decision = at_once
for version in versions:
    if (child := os.fork()) == 0:
        try:
            label, by = f"{name}/{version}", "user" + version
            decisions.decide("promote", label, Path(runs), PromotionPolicy(), by=by)
            said = "WON"
        except BaseException as error:
            said = f"{type(error).__name__} {error}"
        (Path(folder) / version).write_text(said)
        os._exit(0)
    ids.append(child)
for child in ids:
    os.waitpid(child, 0)
"""

LEASES = """
import json, os, sys, time
from pathlib import Path
import mlflow.store.tracking.rest_store
from tasks.registry import connection
from tasks.requests import leases
runs, folder, workers, *names = sys.argv[1:]
folder, ids = Path(folder), []
for number in range(int(workers)):
    if (child := os.fork()) == 0:
        said = {}
        try:
            store = connection.connect(Path(runs))
            for name in names:
                before = leases.read_lease_log(store, name)
                meeting = folder / name
                meeting.mkdir(exist_ok=True)
                (meeting / str(number)).touch()
                end = time.monotonic() + 120
                while len(list(meeting.iterdir())) < int(workers):  # all have read the same chain
                    assert time.monotonic() < end
                    time.sleep(0.002)
                lease = leases.acquire(store, name, before, {}, f"worker{number}")
                said[name] = lease is not None
                if lease is not None:
                    leases.report(store, lease, "done", {"version": number})
        except BaseException as error:
            said = {"error": f"{type(error).__name__} {error}"}
        (folder / f"{number}.json").write_text(json.dumps(said))
        os._exit(0)
    ids.append(child)
for child in ids:
    os.waitpid(child, 0)
"""


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """Started once: about 40 seconds on two cores."""
    with servers.serving(tmp_path_factory.mktemp("team") / "servers") as team:
        yield team


@pytest.fixture(autouse=True)
def member(team: LocalStack) -> Iterator[None]:
    """Every test is a member of the team."""
    with servers.client(team):
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def registered(
    team: LocalStack, runs: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[Registered, Path]]:
    """A version that passes the gate, and its run's folder; then the same version again until there are
    COUNT."""
    result, params, lineage, folder = finished_run(tmp_path_factory.mktemp("run"))
    lineage["outputs"] |= {"metrics": GOOD, "base_metrics": BASE}
    lineage["checks"] = {"data": [{"name": "unique", "severity": "critical", "success": True}]}
    Lineage(lineage).save(folder / "lineage.json")
    with servers.client(team):
        first = register(result, params, lineage, folder, runs=runs)
        client = connect(runs).client
        tags = client.get_model_version(first.name, first.version).tags
        out = [first]
        for _ in range(COUNT - 1):
            again = client.create_model_version(
                first.name, f"models:/{first.name}/1", first.run_id, tags=tags
            )
            out.append(replace(first, version=str(again.version)))
    return [(one, folder) for one in out]


def s3(team: LocalStack, key: str, secret: str) -> Any:
    from botocore.config import Config
    from botocore.session import Session

    settings = Config(retries={"max_attempts": 1}, proxies={}, s3={"addressing_style": "path"})
    return Session().create_client(
        "s3",
        "us-east-1",
        endpoint_url=team.s3.url,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=settings,
    )


# What works.


def test_a_version_is_registered_found_verified_and_lies_in_the_bucket(
    team: LocalStack, registered: list[tuple[Registered, Path]], runs: Path, tmp_path: Path
) -> None:
    done, folder = registered[0]
    adapter = load_version(f"{done.name}/{done.version}", tmp_path)  # another runs folder: nothing is cached
    assert adapter.read_bytes() == (folder / "adapter.safetensors").read_bytes()
    assert trace(f"{done.name}/{done.version}", tmp_path).lineage == Lineage.load(folder / "lineage.json")
    assert {"adapter", "header and record"} < {
        row["what"] for row in verify(f"{done.name}/{done.version}", tmp_path)
    }
    secret = json.loads((team.folder / "secrets.json").read_text())["secrets"]["s3-mlflow"]
    names = [one["Key"] for one in s3(team, "mlflow", secret).list_objects_v2(Bucket=ARTIFACTS)["Contents"]]
    assert sum(name.endswith(LOGGED) for name in names) == 1 and any(
        name.endswith("lineage.json") for name in names
    )
    assert not (runs / "mlflow.db").exists() and not (runs / "mlartifacts").exists()


def test_of_processes_that_promote_at_once_exactly_one_wins(
    registered: list[tuple[Registered, Path]], runs: Path, tmp_path: Path
) -> None:
    name = registered[0][0].name
    versions = [done.version for done, _ in registered]
    (tmp_path / "meeting").mkdir()
    line = [sys.executable, "-c", RACE, name, str(runs), str(tmp_path), *versions]
    done = subprocess.run(line, cwd=REPO, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    said = {version: (tmp_path / version).read_text() for version in versions}
    won = [version for version, text in said.items() if text == "WON"]
    lost = [text for text in said.values() if text != "WON"]
    assert len(won) == 1 and all("decided first" in text and "is void" in text for text in lost), said
    found = history(name, runs)
    assert found.champion == won[0] and (len(found.decisions), len(found.void)) == (1, COUNT - 1)
    aliases = connect(runs).client.get_registered_model(name).aliases
    assert {alias: str(number) for alias, number in aliases.items()} == {"champion": won[0]}


def test_of_workers_that_claim_the_same_requests_at_once_each_request_has_exactly_one(
    team: LocalStack, runs: Path, tmp_path: Path
) -> None:
    names = [log_name("fade", f"panda-{i}") for i in range(5)]
    line = [sys.executable, "-c", LEASES, str(runs), str(tmp_path), str(COUNT), *names]
    done = subprocess.run(line, cwd=REPO, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    said = [json.loads((tmp_path / f"{number}.json").read_text()) for number in range(COUNT)]
    won = {name: [number for number, one in enumerate(said) if one.get(name)] for name in names}
    assert all(len(workers) == 1 for workers in won.values()), said
    for name, (worker,) in won.items():
        found = read_lease_log(connect(runs), name)
        assert [(event.kind, event.by) for event in found.events] == [
            ("claim", f"worker{worker}"),
            ("done", f"worker{worker}"),
        ]
        assert len(found.void) == COUNT - 1 and {event.kind for event in found.void} == {"claim"}


def test_a_registration_that_was_cut_off_is_not_counted_twice(
    team: LocalStack, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.registry import register as module

    result, params, lineage, folder = finished_run(tmp_path, seed=9, model_prefix="cut", experiment="cut")

    def gone(*_: object, **__: object) -> None:
        raise module.RegistryUnreachableError("gone.")

    with monkeypatch.context() as patched:
        patched.setattr(module, "_create_version", gone)
        with pytest.raises(RegistryError, match="gone"):
            register(result, params, lineage, folder, runs=runs)
    done = register(result, params, lineage, folder, runs=runs)
    client = connect(runs).client
    (experiment,) = [one for one in client.search_experiments() if one.name == "cut"]
    states = {run.info.run_id: run.info.status for run in client.search_runs([experiment.experiment_id])}
    assert sorted(states.values()) == ["FAILED", "FINISHED"] and states[done.run_id] == "FINISHED"
    client.update_run(
        done.run_id, status="RUNNING"
    )  # as a server leaves it that dies right after the version
    assert register(result, params, lineage, folder, runs=runs) == done
    assert client.get_run(done.run_id).info.status == "FINISHED"


def test_a_second_member_decides_about_what_the_first_registered_and_cannot_delete_it(
    team: LocalStack, registered: list[tuple[Registered, Path]], runs: Path
) -> None:
    from mlflow.exceptions import MlflowException

    team.mlflow.add_user(Account("bob", "the-word-of-bob"))
    name = registered[0][0].name
    with servers.client(team, MLFLOW_TRACKING_USERNAME="bob", MLFLOW_TRACKING_PASSWORD="the-word-of-bob"):
        version = registered[1][0].version
        decide("promote", f"{name}/{version}", runs, PromotionPolicy(), by="bob", override="to be sure")
        # MLflow lets only a manager delete an alias. The decision counts all the same, and a manager's next
        # look mends the alias.
        with pytest.raises(RegistryError, match=r"does not let us do that \(403\)"):
            decide("revoke", f"{name}/{version}", runs, PromotionPolicy(), by="bob", reason="a test")
        with pytest.raises(AdapterError, match="was revoked"):
            load_version(f"{name}/{version}", runs)
        with pytest.raises(MlflowException, match=r"403|Permission denied"):
            connect(runs).client.delete_registered_model(name)
    assert history(name, runs).states[version] == "revoked"
    assert connect(runs).client.get_registered_model(name).aliases == {}


# Who is let in.


@pytest.mark.parametrize(
    "login",
    [
        {"MLFLOW_TRACKING_USERNAME": "", "MLFLOW_TRACKING_PASSWORD": ""},
        {"MLFLOW_TRACKING_PASSWORD": "wr0ng-word"},
    ],
)
def test_mlflow_refuses_strangers_with_a_sentence(
    team: LocalStack, tmp_path: Path, login: dict[str, str]
) -> None:
    with (
        servers.client(team, **login),
        pytest.raises(RegistryError, match=r"does not know us \(401\).*MLFLOW_TRACKING_USER") as caught,
    ):
        connect(tmp_path)
    assert "wr0ng-word" not in str(caught.value) and caught.value.exit_code == 1


@pytest.mark.parametrize("login", ["", "team:wr0ng-word"])
def test_prefect_refuses_strangers_with_a_sentence(
    team: LocalStack, monkeypatch: pytest.MonkeyPatch, login: str
) -> None:
    runtime.reach()  # as a member: no error
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", login)
    with pytest.raises(OrchestrationError, match=r"refuses us \(401\).*PREFECT_API_AUTH_STRING") as caught:
        runtime.reach()
    assert "wr0ng-word" not in str(caught.value)


def test_s3_gives_a_member_its_own_bucket_and_no_other(team: LocalStack) -> None:
    from botocore.exceptions import ClientError

    mine = s3(team, os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
    mine.put_object(Bucket=DATA, Key="mine", Body=b"x")
    with pytest.raises(ClientError, match="AccessDenied"):
        mine.list_objects_v2(Bucket=ARTIFACTS)
    with pytest.raises(ClientError, match="AccessDenied"):
        mine.put_object(Bucket=ARTIFACTS, Key="artifacts/theirs", Body=b"x")
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        s3(team, "team", "wrong").list_objects_v2(Bucket=DATA)
    assert servers.get(f"{team.s3.url}/{DATA}/mine").status_code == 403


def test_postgres_wants_a_password_and_keeps_the_databases_apart(team: LocalStack) -> None:
    import psycopg2

    address = team.postgres.database_url("fade_prefect", driver="postgresql")
    psycopg2.connect(address).close()
    parts = urlsplit(address)
    with pytest.raises(psycopg2.OperationalError, match="password"):
        psycopg2.connect(host="127.0.0.1", port=parts.port, user="postgres", password="", dbname="postgres")
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(
            host="127.0.0.1", port=parts.port, user="postgres", password="wrong", dbname="postgres"
        )
    with pytest.raises(psycopg2.OperationalError, match="permission denied"):
        psycopg2.connect(address.removesuffix("fade_prefect") + "fade_mlflow")


def test_no_secret_is_seen_by_ps_or_by_other_users(team: LocalStack) -> None:
    words = set(json.loads((team.folder / "secrets.json").read_text())["secrets"].values())
    lines = []
    for server in team.servers.values():
        assert server.group is not None
        leader = psutil.Process(server.group.pid)
        lines += [" ".join(one.cmdline()) for one in (leader, *leader.children(recursive=True))]
    assert len(lines) > 4 and [line for line in lines if any(word in line for word in words)] == []
    holders = [
        path
        for path in team.folder.rglob("*")
        if path.is_file() and "data" not in path.relative_to(team.folder).parts
    ]
    holders = [path for path in holders if any(word.encode() in path.read_bytes() for word in words)]
    assert {path.name for path in holders} == {"secrets.json", "auth.ini", "s3.json", "env"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in holders} == {0o600}


def test_only_loopback_is_listened_on(team: LocalStack) -> None:
    for server in team.servers.values():
        assert server.group is not None
        leader = psutil.Process(server.group.pid)
        for one in (leader, *leader.children(recursive=True)):
            heard = []
            with contextlib.suppress(
                psutil.NoSuchProcess
            ):  # PostgreSQL's come and go; one that is gone listens to nothing
                heard = [
                    link.laddr.ip for link in one.net_connections("inet") if link.status == psutil.CONN_LISTEN
                ]
            assert set(heard) <= {"127.0.0.1"}, server.name
        assert leader.is_running()


def test_a_folder_has_its_servers_once(team: LocalStack) -> None:
    with pytest.raises(BusyError, match="is in use by process"):
        LocalStack(team.folder).start()
    assert all(server.running() for server in team.servers.values())


# Pages in a browser.


@pytest.mark.parametrize("host", ["evil.example", "evil.example:5000", "127.0.0.1.evil.example"])
def test_a_foreign_host_is_refused(team: LocalStack, host: str) -> None:
    login = {"auth": (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"])}
    listed = f"{team.mlflow.url}/api/2.0/mlflow/experiments/search?max_results=1"
    assert servers.get(listed, **login).status_code == 200
    assert servers.get(listed, headers={"Host": host}, **login).status_code == 403
    user, _, word = os.environ["PREFECT_API_AUTH_STRING"].partition(":")
    asked = f"{team.prefect.url}/admin/version"
    assert servers.get(asked, auth=(user, word)).status_code == 200
    assert servers.get(asked, auth=(user, word), headers={"Host": host}).status_code == 421


@pytest.mark.parametrize("origin", ["http://evil.example", "null"])
def test_a_foreign_origin_changes_nothing(team: LocalStack, origin: str) -> None:
    login = (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"])
    made = f"{team.mlflow.url}/api/2.0/mlflow/registered-models/create"
    body = {"name": f"from-{urlsplit(origin).hostname}"}
    options: dict[str, Any] = {"auth": login, "timeout": 30.0, "trust_env": False}
    assert httpx.post(made, json=body, headers={"Origin": origin}, **options).status_code == 403
    assert httpx.post(made, json=body, headers={"Origin": team.mlflow.url}, **options).status_code == 200
    user, _, word = os.environ["PREFECT_API_AUTH_STRING"].partition(":")
    options["auth"] = (user, word)
    asked = f"{team.prefect.url}/admin/version"
    assert servers.get(asked, auth=(user, word), headers={"Origin": origin}).status_code == 403
    assert (
        servers.get(
            asked, auth=(user, word), headers={"Origin": team.prefect.url.removesuffix("/api")}
        ).status_code
        == 200
    )


def test_prefect_wants_a_csrf_token_of_whoever_changes_something(team: LocalStack) -> None:
    user, _, word = os.environ["PREFECT_API_AUTH_STRING"].partition(":")
    made = httpx.post(
        f"{team.prefect.url}/flows/", json={"name": "x"}, auth=(user, word), timeout=30.0, trust_env=False
    )
    assert made.status_code == 403 and "CSRF" in made.text


# What is no adapter of ours, and what lies elsewhere.


class Planted:
    """Its pickle makes a file when it is read."""

    def __init__(self, where: Path) -> None:
        self.where = str(where)

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (self.where, "w"))


def test_a_pickle_offered_as_an_adapter_is_refused(runs: Path, tmp_path: Path) -> None:
    import pickle

    client = connect(runs).client
    weights = tmp_path / LOGGED
    weights.parent.mkdir(parents=True)
    weights.write_bytes(pickle.dumps(Planted(tmp_path / "opened")))
    run = client.create_run(client.create_experiment("pickles"))
    model = client.create_logged_model(run.info.experiment_id, name="adapter", source_run_id=run.info.run_id)
    (tmp_path / "MLmodel").write_text(
        f"artifact_path: {model.artifact_location}\nflavors: {{}}\nmodel_id: {model.model_id}\n"
    )
    client.log_model_artifacts(model.model_id, str(tmp_path))
    client.finalize_logged_model(model.model_id, "READY")
    client.create_registered_model("fade-pickle")
    tags = {"adapter_sha256": sha256_of(weights)}  # the tag agrees with the bytes
    client.create_model_version(
        "fade-pickle", model.artifact_location, run.info.run_id, tags=tags, model_id=model.model_id
    )
    with pytest.raises(AdapterError, match="cannot be read"):
        load_version("fade-pickle/1", tmp_path / "runs")
    assert not (tmp_path / "opened").exists() and not list((tmp_path / "runs").rglob("adapter.safetensors"))


def test_mlflow_does_not_unpickle_a_model_of_a_colleague(runs: Path, tmp_path: Path) -> None:
    import pickle

    import mlflow

    client = connect(runs).client
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "python_model.pkl").write_bytes(pickle.dumps(Planted(tmp_path / "opened")))
    flavour = (
        "  python_function:\n    cloudpickle_version: 3.1.1\n    loader_module: mlflow.pyfunc.model\n "
        "   python_model: python_model.pkl\n"
    )
    run = client.create_run(client.create_experiment("pyfuncs"))
    (folder / "MLmodel").write_text(
        f"flavors:\n{flavour}    python_version: 3.11.0\nrun_id: {run.info.run_id}\n"
    )
    client.log_artifacts(run.info.run_id, str(folder), "model")
    with pytest.raises(mlflow.exceptions.MlflowException, match=r"(?i)pickle"):
        mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/model")
    assert not (tmp_path / "opened").exists()


@pytest.mark.parametrize(
    "source",
    [
        "/etc",
        "file:///etc",
        "file://localhost/etc",
        "../../etc",
        "mlflow-artifacts:/../../etc",
        "mlflow-artifacts:/1/%2e%2e/%2e%2e/etc",
        "mlflow-artifacts://evil.example/1/x",
        f"s3://{ARTIFACTS}/artifacts/1",
        "http://evil.example/model",
        "runs:/../../etc",
        "models:/fade-panda/1/../../x",
    ],
)
def test_a_version_whose_files_lie_elsewhere_is_refused(runs: Path, source: str) -> None:
    from mlflow.exceptions import MlflowException

    tracking = connect(runs)
    ensure_model(tracking, "fade-elsewhere")
    with pytest.raises(MlflowException):
        tracking.client.create_model_version("fade-elsewhere", source)
    assert tracking.client.search_model_versions("name = 'fade-elsewhere'") == []


def test_a_record_without_files_is_let_in(runs: Path) -> None:
    tracking = connect(runs)
    ensure_model(tracking, "fade-records")
    assert (
        tracking.client.create_model_version("fade-records", "fade-request:/event").source
        == "fade-request:/event"
    )


@pytest.mark.parametrize(
    "path",
    ["../../../../etc/passwd", "..%2f..%2f..%2fetc%2fpasswd", "%2fetc%2fpasswd", "1/..%252f..%252fetc"],
)
def test_the_artifact_store_hands_out_nothing_from_outside(team: LocalStack, path: str) -> None:
    login = f"{os.environ['MLFLOW_TRACKING_USERNAME']}:{os.environ['MLFLOW_TRACKING_PASSWORD']}"
    with socket.create_connection(
        ("127.0.0.1", team.mlflow.port), timeout=30
    ) as link:  # as it is: a client would tidy the path
        link.sendall(
            f"GET /api/2.0/mlflow-artifacts/artifacts/{path} HTTP/1.1\r\nHost: "
            f"127.0.0.1:{team.mlflow.port}\r\nConnection: close\r\n"
            f"Authorization: Basic {b64encode(login.encode()).decode()}\r\n\r\n".encode()
        )
        answer = b"".join(iter(lambda: link.recv(65536), b""))
    assert int(answer.split()[1]) >= 400 and b"root:" not in answer


def test_the_gate_is_the_projects_own() -> None:
    assert PromotionPolicy().erased <= GOOD["A_er"]  # the versions above pass it
