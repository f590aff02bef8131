"""Records of requests, releases and champions that somebody else wrote or changed: each is shown as
unreadable, with its name and what to do, and hides no other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from fade.config import Params, PromotionPolicy
from fade.errors import FadeError, RegistryError
from flows.service.status import registry_status
from tasks.registry import signing
from tasks.registry.connection import connect
from tasks.registry.decisions import decide, history
from tasks.registry.lineage import find
from tasks.registry.register import bind, registered_tags
from tasks.registry.releases import releases
from tasks.registry.snapshot import RegistrySnapshot
from tasks.registry.trust import Trust
from tasks.requests.leases import RequestSnapshot
from tasks.requests.status import REEVALUATED, RequestStatus, request_statuses
from tasks.requests.worker import Worker
from tests.requested import entry, eraser, project, prototype, where

pytestmark = pytest.mark.usefixtures("alone")
GATE = PromotionPolicy()


class Team:
    """Two requests, done by a worker, of a team with a key or without one."""

    def __init__(self, folder: Path, *, keyed: bool, erased: float = 100.0) -> None:
        self.folder = project(folder / "team", entry("p1"), entry("k1", "koala"))
        self.trust = Trust()
        if keyed:
            private, public = signing.make_keys(folder / "keys", "team")
            self.trust = Trust(str(public), str(private))
            file = self.folder / "params.yaml"
            content = yaml.safe_load(file.read_text())
            content["signing"] = {"private_key": str(private), "public_key": str(public)}
            file.write_text(yaml.safe_dump(content))
        self.proto = prototype(self.folder / "runs", folder / "made", A_er=erased)
        self.client = connect(self.folder / "runs").client
        Worker(where(self.folder), self.erase).run()

    @property
    def params(self) -> Params:
        return where(self.folder).resolve()

    def erase(self, target: str, params: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        done: dict[str, Any] = eraser(self.folder, self.proto)(target, params, **more)
        version = self.client.get_model_version(done["model_name"], done["model_version"])
        if self.trust.public_key:  # as `register`, which the stand-in is not
            tracking = connect(self.folder / "runs")
            snapshot = RegistrySnapshot.load_model(tracking, str(version.name), self.trust)
            bind(snapshot, version, registered_tags(version.tags))
        return done

    def states(self) -> dict[str, RequestStatus]:
        place = where(self.folder)
        snapshot = RequestSnapshot.load(connect(self.folder / "runs"), "fade", self.trust)
        some = request_statuses(snapshot, place.requests(self.params), self.params, place.resolve)
        return {one.id: one for one in some}


@pytest.fixture
def keyed(tmp_path: Path) -> Team:
    return Team(tmp_path, keyed=True)


@pytest.fixture
def keyless(tmp_path: Path) -> Team:
    return Team(tmp_path, keyed=False)


def done_event(team: Team, request: str) -> tuple[str, str, dict[str, Any]]:
    """Log, number and content of a request's DONE."""
    log = f"fade.request.{request}"
    versions = team.client.search_model_versions(f"name = '{log}'")
    (one,) = [v for v in versions if json.loads(v.tags["event"])["kind"] == "done"]
    return log, str(one.version), json.loads(one.tags["event"])


def test_a_result_that_was_edited_or_deleted_is_not_believed(keyed: Team) -> None:
    assert {one.state for one in keyed.states().values()} == {"done"}
    log, number, content = done_event(keyed, "p1")
    content["content"]["record"]["outputs"]["metrics"]["A_er"] = 1.0
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    keyed.client.set_model_version_tag(log, number, "event", text)
    keyed.client.delete_registered_model_tag(log, "head")
    found = keyed.states()
    assert (found["p1"].state, found["k1"].state) == ("faulty", "done")
    assert f"{log}: event {number}" in found["p1"].detail and "Next:" in found["p1"].detail

    log, number, _ = done_event(keyed, "k1")
    keyed.client.delete_model_version(log, number)
    keyed.client.delete_registered_model_tag(log, "head")
    assert f"event {number} was edited, or is missing; this machine" in keyed.states()["k1"].detail


def test_a_forged_re_evaluation_makes_no_request_done(tmp_path: Path) -> None:
    team = Team(tmp_path, keyed=True, erased=10.0)
    assert {one.state for one in team.states().values()} == {"failed"}
    _, _, content = done_event(team, "p1")
    record = content["content"]["record"]
    record["outputs"]["metrics"]["A_er"] = 100.0
    tag = json.dumps({"at": "", "judge": "", "data": "", "run_id": "", "record": record})
    team.client.set_model_version_tag("fade-panda", "1", REEVALUATED, tag)
    assert team.states()["p1"].state == "failed"


def test_one_bad_record_of_a_request_hides_no_other(keyless: Team) -> None:
    client = keyless.client
    for value in (
        "no JSON",
        "[]",
        "{}",
        '{"record": 1}',
        '{"record": {}}',
        "[" * 100_000,
        '{"record":{"outputs":NaN}}',
    ):
        client.set_model_version_tag("fade-panda", "1", REEVALUATED, value)
        found = keyless.states()
        assert (found["p1"].state, found["k1"].state) == ("faulty", "done"), value
        assert "unreadable" in found["p1"].detail and "Next:" in found["p1"].detail
    client.delete_model_version_tag("fade-panda", "1", REEVALUATED)
    client.set_model_version_tag("fade.request.p1", "1", "beat", "a while")
    assert "fade.request.p1: its tag beat is no number" in keyless.states()["p1"].detail
    client.create_registered_model("fade.request.stranger")
    client.create_model_version("fade.request.stranger", "x:/y")
    client.create_registered_model("fade-strange.decisions")
    client.create_model_version("fade-strange.decisions", "x:/y", tags={"decision": "?"})
    found = keyless.states()
    assert (found["stranger"].state, found["k1"].state) == ("faulty", "done")
    shown = registry_status(where(keyless.folder))
    (row,) = shown["champions"]
    assert row["model"] == "fade-strange" and "decision 1 cannot be read" in row["why"]
    # a pass goes on with the others, and says which is unreadable
    Worker(where(keyless.folder), keyless.erase).run()


def test_bad_tags_of_other_versions_stop_no_command(keyless: Team) -> None:
    runs, client = keyless.folder / "runs", keyless.client
    client.set_model_version_tag("fade-panda", "1", "neighbours", "koala")
    (row,) = [one for one in find(runs, neighbour="koala") if one["name"] == "fade-panda"]
    assert "its tag neighbours cannot be read" in row["unreadable"]
    client.create_registered_model("fade.release")
    for parts in ("{", "[1]", '["fade-panda/1"]'):
        client.create_model_version("fade.release", "x:/y", tags={"parts": parts})
    rows = releases(keyless.params, runs, keyless.folder)
    assert [bool(row["unreadable"]) for row in rows] == [False, True, True]
    with pytest.raises(RegistryError, match="fade.release/1 has no lineage.json"):
        decide("promote", "fade.release/1", runs, GATE, by="ann", override="x")


def test_a_version_that_was_deleted_by_hand_stops_no_decision_about_others(keyless: Team) -> None:
    runs, client = keyless.folder / "runs", keyless.client
    one = client.get_model_version("fade-panda", "1")
    for _ in range(2):
        client.create_model_version(
            "fade-panda", str(one.source), one.run_id, tags=one.tags, model_id=one.model_id
        )
    for number in ("1", "2"):
        decide("promote", f"fade-panda/{number}", runs, GATE, by="ann")
    client.delete_model_version("fade-panda", "1")  # the retired one
    client.delete_model_version("fade-panda", "2")  # the champion
    assert history("fade-panda", runs).champion == "2"
    decide("promote", "fade-panda/3", runs, GATE, by="ann")
    assert history("fade-panda", runs).champion == "3"
    assert {a: str(n) for a, n in client.get_registered_model("fade-panda").aliases.items()} == {
        "champion": "3"
    }
    decide("revoke", "fade-panda/3", runs, GATE, by="ann", reason="x")
    with pytest.raises(FadeError, match="unknown version"):
        decide("revoke", "fade-panda/1", runs, GATE, by="ann", reason="x")
