"""Champions in a real MLflow held against today's inputs: unchanged, judged again, stale, and what that makes
of their requests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fade.errors import EvaluationError, RequestError
from flows.reevaluate import raise_failures, reevaluate_all
from tasks.registry.connection import connect
from tasks.registry.decisions import decide
from tasks.release import reevaluate
from tasks.release.reevaluate import recorded_neighborhood
from tasks.requests.leases import RequestSnapshot
from tasks.requests.status import REEVALUATED, STALE, request_statuses
from tasks.requests.worker import Worker
from tests.requested import BASE, GOOD, entry, eraser, project, prototype, where

pytestmark = pytest.mark.usefixtures("alone")
THEN = {"base": ("1" * 64,), "judge": ("2" * 64,), "data": ("e" * 32 + ".dir",)}
"""What the registered record says."""


class Team:
    def __init__(self, folder: Path, proto: dict[str, str]) -> None:
        self.folder, self.where = folder, where(folder)
        self.params, self.tracking = self.where.resolve(), connect(folder / "runs")
        Worker(self.where, eraser(folder, proto)).run()
        decide("promote", "fade-panda/1", folder / "runs", self.params.gate, by="ann")
        self.judged: list[str] = []

    def reevaluate(self, now: dict[str, str]) -> list[dict[str, Any]]:
        return reevaluate_all(self.tracking, self.params, self.folder / "runs", self.folder, now)

    def tags(self) -> dict[str, str]:
        return dict(self.tracking.client.get_model_version("fade-panda", "1").tags)

    def request(self) -> Any:
        snapshot = RequestSnapshot.load(self.tracking, "fade")
        requests = self.where.requests(self.params)
        return request_statuses(snapshot, requests, self.params, self.where.resolve)[0]


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Team:
    monkeypatch.setattr(
        "flows.reevaluate.reevaluate_task", reevaluate.reevaluate_version
    )  # the same, without a server
    folder = project(tmp_path / "team", entry("p1"))
    one = Team(folder, prototype(folder / "runs", tmp_path / "made"))

    def evaluate_version(tracking: Any, version: Any, *_: Any) -> dict[str, Any]:
        one.judged.append(f"{version.name}/{version.version}")
        return {"metrics": {**GOOD, "A_heldout": 80.0}, "base_metrics": BASE}

    monkeypatch.setattr(reevaluate, "evaluate_version", evaluate_version)
    return one


def test_a_champion_is_judged_again_once_when_judge_or_data_changed(team: Team) -> None:
    assert [f"{v.name}/{v.version}" for v in RequestSnapshot.load(team.tracking, "fade").champions()] == [
        "fade-panda/1"
    ]
    (row,) = team.reevaluate(THEN)
    assert (row["result"], row["passes"], team.judged) == ("unchanged", True, []) and raise_failures(
        [row]
    ) == [row]

    now = {**THEN, "judge": ("9" * 64,)}
    (row,) = team.reevaluate(now)
    assert (row["result"], row["passes"], row["why"]) == (
        "reevaluated",
        False,
        "held-out kept 80.0 (asked 96)",
    )
    assert row["changed"] == ["judge 222222222222 -> 999999999999"]
    with pytest.raises(RequestError, match=r"1 champion.* fade-panda/1: held-out kept 80\.0"):
        raise_failures([row])
    tag = json.loads(team.tags()[REEVALUATED])
    run = team.tracking.client.get_run(tag["run_id"])
    assert (
        run.data.metrics["A_heldout"] == 80
        and run.data.tags["reevaluates"] == "fade-panda/1"
        and run.info.status == "FINISHED"
    )
    assert team.request().state == "failed" and "re-evaluated, held-out kept 80.0" in team.request().detail

    assert team.reevaluate(now)[0]["result"] == "unchanged" and team.judged == [
        "fade-panda/1"
    ]  # repeated, it does nothing again
    assert team.reevaluate(now)[0]["passes"] is False  # and does not forget what it found
    assert (
        team.reevaluate({**now, "data": ("f" * 32 + ".dir",)})[0]["result"] == "reevaluated"
        and len(team.judged) == 2
    )


def test_a_champion_of_another_base_is_stale_and_its_request_open_until_the_base_is_back(team: Team) -> None:
    (row,) = team.reevaluate({**THEN, "base": ("8" * 64,), "judge": ("9" * 64,)})
    assert row["result"] == "stale" and team.judged == []
    with pytest.raises(RequestError, match="fade-panda/1: the base 111111111111 -> 888888888888"):
        raise_failures([row])
    assert team.tags()[STALE] == "the base 111111111111 -> 888888888888"
    assert (team.request().state, team.request().eligible) == (
        "open",
        True,
    ) and "stale: the base" in team.request().detail
    assert (
        team.reevaluate(THEN)[0]["result"] == "unchanged"
        and STALE not in team.tags()
        and team.request().state == "done"
    )


def test_one_that_cannot_be_judged_does_not_stop_the_others_and_is_told(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(*_: Any) -> dict[str, Any]:
        raise EvaluationError("the judge does not know 'panda'.", stage="evaluate", action="use another.")

    monkeypatch.setattr(reevaluate, "evaluate_version", cannot)
    (row,) = team.reevaluate({**THEN, "judge": ("9" * 64,)})
    assert (
        row["result"] == "failed" and "does not know 'panda'" in row["why"] and REEVALUATED not in team.tags()
    )
    with pytest.raises(RequestError, match="does not know 'panda'"):
        raise_failures([row])


def test_a_recorded_neighbourhood_is_judged_as_it_was() -> None:
    record = {
        "target": "a + b", "targets": ["a", "b"], "left_out": [], "neighbours": ["c"], "heldout": ["d"],
        "names": ["a", "b", "c", "d"], "matrix": [[1.0] * 4] * 4,
        "cache_key": "k", "seed": 1, "images_per_concept": 2,
    }  # fmt: skip
    neighborhood = recorded_neighborhood(record)
    assert (neighborhood.targets, neighborhood.neighbours, neighborhood.heldout) == (["a", "b"], ["c"], ["d"])
    assert recorded_neighborhood({**record, "target": "a", "targets": ["a"]}).targets == ["a"]
