"""A release that its gate refuses, in a real MLflow: it names who has to stay out, the release of the others
follows, and the request of the one that stayed out shows why. The releases are registered beforehand, with
adapters of a few bytes, so that the flow finds them and makes none."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from fade.config import Params, PromotionPolicy
from fade.errors import PromotionError, UnknownNameError
from fade.governance.exclusion import exclusion
from fade.governance.release_plan import key, numbers_of, worst
from fade.provenance.lineage import Lineage
from flows.release import release, release_within_gate
from flows.service.process_requests import release_champions
from tasks.registry.connection import connect
from tasks.registry.decisions import decide
from tasks.registry.register import register
from tasks.registry.releases import releases, why_stays_out
from tasks.registry.verify import verify
from tasks.release.build_release import ReleaseParts, select_champions
from tasks.release.release_decision import ReleaseOptions
from tasks.release.release_due import why_no_release
from tasks.requests.leases import RequestSnapshot
from tasks.requests.status import OPEN, SUCCEEDED, RequestStatus
from tasks.requests.worker import Worker
from tests.integration.test_release import champion, params_of
from tests.integration.test_release import registered as registered_version
from tests.registered import adapter_bytes, finished_run
from tests.requested import entry, project, where

pytestmark = pytest.mark.usefixtures("alone")
GATE = PromotionPolicy()
NEAR = {"lemon": "pear", "panda": "koala", "tulip": "rose"}
COST = {"koala": {"lemon": 9.0, "panda": 1.0}, "pear": {"lemon": 1.0}, "rose": {"tulip": 1.0}}
"""Predicted; the koala loses to the lemon."""


def options(store: Path, prefix: str, **changes: Any) -> ReleaseOptions:
    values = params_of(prefix).model_dump(mode="json", by_alias=True)
    retries = changes.pop("retries", 2)
    params = Params.model_validate({**values, "release": {**values["release"], "retries": retries}})
    return ReleaseOptions(params, store, by="ann", **changes)


def chosen(store: Path, prefix: str, without: tuple[str, ...] = ()) -> ReleaseParts:
    return select_champions(connect(store), params_of(prefix), store).without(without)


def registered(
    store: Path,
    tmp_path: Path,
    prefix: str,
    koala: float,
    without: tuple[str, ...] = (),
    params: Params | None = None,
) -> str:
    """The release of the champions but ``without``, in which ``koala`` percent of the koala's pictures are
    recognised and all else is as it should be; its label."""
    parts, params = chosen(store, prefix, without), params or params_of(prefix)
    folder = tmp_path / f"{prefix}-release-{'-'.join(without)}"
    folder.mkdir()
    result, own, lineage, made = finished_run(folder, model_prefix=prefix)
    run_dir = made.rename(made.parent / key(parts.parts, params, signed=False))
    lineage["base"] = {"sha256": parts.parts[0].base_sha256}
    lineage["parts"] = {part.label: part.to_json() for part in parts.parts}
    shares = {name: [100.0, 0.0] for name in parts.concepts}
    shares |= {kept: [100.0, koala if kept == "koala" else 100.0] for kept in NEAR.values()}
    groups = {
        name: {"neighbours": [NEAR[name]], "heldout": ["rose"], "left_out": []} for name in parts.concepts
    }
    base, erased = ({name: row[i] for name, row in shares.items()} for i in (0, 1))
    numbers = {
        name: {
            **numbers_of({"targets": [name], **one, "rest": ["rose"]}, base, erased),
            "alone": {"A_er": 100.0},
        }
        for name, one in groups.items()
    }
    cost = {
        name: {"group": "used", "total": sum(of.values()), "of": {**dict.fromkeys(parts.concepts, 0.0), **of}}
        for name, of in COST.items()
    }
    lineage["release"] = {
        "settings": {},
        "predicted": {"cost": cost, "breaks": ""},
        "judged": {"shares": shares, "groups": groups, "rest": ["rose"]},
    }
    check = {"name": "unique", "severity": "critical", "success": True}
    lineage["checks"] = {f"{label} data": [check] for label in parts.labels}
    header = {
        "concept": " + ".join(parts.concepts),
        "base_sha256": lineage["base"]["sha256"],
        "data_md5": lineage["data"]["md5"],
        "params_sha256": lineage["params"]["sha256"],
        "parts": json.dumps([{"sha256": part.adapter_sha256} for part in parts.parts]),
    }
    data = adapter_bytes(len(without), header)
    (run_dir / "adapter.safetensors").write_bytes(data)
    (run_dir / "card.md").write_text("# A release\n\n## State\n\n- old\n", encoding="utf-8")
    result["target"] = lineage["neighbourhood"]["target"] = " + ".join(parts.concepts)
    lineage["outputs"] = {
        "adapter_sha256": hashlib.sha256(data).hexdigest(),
        **worst(numbers),
        "parts": numbers,
        "whole": {"metrics": {}, "base_metrics": {}},
    }
    if stays_out := exclusion(lineage, params.gate):
        lineage["release"]["stays_out"] = stays_out
    Lineage(lineage).save(run_dir / "lineage.json")
    done = register(result, own, lineage, run_dir, runs=store, name=f"{prefix}.release")
    return f"{done.name}/{done.version}"


def test_a_refused_release_names_the_set_and_the_command_of_the_others(store: Path, tmp_path: Path) -> None:
    labels = {name: champion(store, tmp_path, "names", name) for name in NEAR}
    refused = registered(store, tmp_path, "names", koala=80.0)
    found = release(options(store, "names"))
    assert (found["version"], found["current"], found["made"]) == ("1", False, False)
    assert "panda: neighbours kept 80.0 (asked 96)" in found["refused"]
    (member,) = found["stays_out"]["members"]
    assert (member["part"], member["concepts"]) == (labels["lemon"], ["lemon"])
    assert member["why"].startswith("costs 'koala' 18.0 points")
    assert found["next"] == "fade release --without lemon"
    (version,) = connect(store).client.search_model_versions("name = 'names.release'")
    assert json.loads(version.tags["stays_out"]) == {labels["lemon"]: member["why"]}
    assert verify(refused, store)[0]["what"] == "registration"  # the tag is bound with the others
    (only,) = release_within_gate(options(store, "names", retries=0))
    assert (only["current"], only["next"]) == (False, found["next"])  # it is named, and nothing else is made


def test_the_release_of_the_others_follows_and_the_request_shows_why_one_stayed_out(
    store: Path, tmp_path: Path
) -> None:
    labels = {name: champion(store, tmp_path, "follows", name) for name in NEAR}
    registered(store, tmp_path, "follows", koala=80.0)
    registered(store, tmp_path, "follows", koala=99.0, without=("lemon",))
    results = release_within_gate(options(store, "follows"))
    assert [(one["version"], one["current"], one["without"]) for one in results] == [
        ("1", False, []),
        ("2", True, ["lemon"]),
    ]
    assert results[1]["parts"] == [labels["panda"], labels["tulip"]]
    snapshot = RequestSnapshot.load(connect(store), "follows")
    why = why_stays_out(snapshot, labels["lemon"])
    assert why.startswith("stays out of the release: costs 'koala' 18.0 points")
    assert why.endswith(", by follows.release/1")
    assert why_stays_out(snapshot, labels["panda"]) == why_stays_out(snapshot, "follows-lemon/9") == ""
    decide("promote", "follows.release/1", store, GATE, by="ann", override="it is wanted all the same")
    assert why_stays_out(RequestSnapshot.load(connect(store), "follows"), labels["lemon"]) == ""


def test_there_are_no_more_releases_than_retries_and_a_rollback_names_nobody(
    store: Path, tmp_path: Path
) -> None:
    for name in NEAR:
        champion(store, tmp_path, "ends", name)
    registered(store, tmp_path, "ends", koala=80.0)
    registered(store, tmp_path, "ends", koala=70.0, without=("lemon",))
    results = release_within_gate(options(store, "ends", retries=1))
    assert [one["current"] for one in results] == [False, False]
    assert results[-1]["next"] == "fade release --without lemon --without panda"
    accepted = options(store, "ends", without=("lemon",), override="a test")
    assert release(accepted)["current"]
    decide("reject", "ends.release/1", store, GATE, by="ann", reason="a test")
    gate = GATE.model_copy(update={"neighbours_kept": 0.0, "erb": 0.0})
    lenient = accepted.params.model_copy(update={"gate": gate})
    rejected = release(ReleaseOptions(lenient, store, by="ann"))
    assert not rejected["current"] and rejected["stays_out"] == {} and rejected["next"] == ""


def test_whom_no_champion_erases_and_all_of_them_cannot_be_left_out(store: Path, tmp_path: Path) -> None:
    for name in NEAR:
        champion(store, tmp_path, "without", name)
    with pytest.raises(UnknownNameError, match=r"unknown erased concept 'lemom'.*did you mean 'lemon'"):
        release(options(store, "without", without=("lemom",)))
    with pytest.raises(PromotionError, match="every champion is left out"):
        release(options(store, "without", without=tuple(NEAR)))


def test_a_release_is_due_once_all_is_worked_off_and_decided_and_not_after_somebodys_choice(
    store: Path, tmp_path: Path
) -> None:
    labels = {name: champion(store, tmp_path, "due", name) for name in ("lemon", "panda")}
    own, tracking = options(store, "due"), connect(store)
    done = [RequestStatus(name, SUCCEEDED, version=label) for name, label in labels.items()]
    waiting = [*done, RequestStatus("t1", OPEN)]
    assert why_no_release(tracking, own, waiting) == "not worked off yet: t1"
    undecided = [*done, RequestStatus("t1", SUCCEEDED, version="due-tulip/1")]
    assert why_no_release(tracking, own, undecided).startswith("not decided yet: due-tulip/1")
    again = [RequestStatus("l1", SUCCEEDED, version="due-lemon/9")]  # an earlier one is the champion
    assert why_no_release(tracking, own, again).startswith("not decided yet: due-lemon/9")
    assert why_no_release(tracking, own, []) == "no request's version is a champion"
    assert why_no_release(tracking, own, done) == ""
    refused = registered(store, tmp_path, "due", koala=80.0)
    assert why_no_release(tracking, own, done) == ""  # the pass that made it may have ended there
    registered(store, tmp_path, "due", koala=99.0, without=("lemon",))
    assert why_no_release(tracking, own, done) == f"{refused} is of these champions"


def test_requests_that_were_worked_off_end_in_one_release_that_passes(tmp_path: Path) -> None:
    """The release of the others lies there from before, so that the pass makes none itself."""
    folder = project(tmp_path / "team", *(entry(f"r-{name}", name) for name in NEAR))
    runs, params = folder / "runs", where(folder).resolve()

    def erase(target: str, *_: Any, **__: Any) -> dict[str, Any]:
        name, _, number = registered_version(runs, tmp_path, "fade", target).rpartition("/")
        return {"model_name": name, "model_version": number}

    worker = Worker(where(folder), erase, by="worker")
    assert {outcome.result for outcome in worker.run()} == {"done"}
    waiting = release_champions(worker)
    assert waiting["releases"] == [] and waiting["no_release"].startswith("not decided yet: fade-")
    for name in NEAR:
        decide("promote", f"fade-{name}/1", runs, GATE, by="ann")
    registered(runs, tmp_path, "fade", 99.0, ("lemon",), params)
    registered(runs, tmp_path, "fade", 80.0, params=params)

    found = release_champions(worker)
    assert [(one["version"], one["current"]) for one in found["releases"]] == [("2", False), ("1", True)]
    details = {one["concept"]: (one["state"], one["detail"]) for one in found["requests"]}
    assert details["panda"] == ("done", "by fade-panda/1")
    state, detail = details["lemon"]
    assert state == "done" and detail.endswith(", by fade.release/2")
    assert detail.startswith("by fade-lemon/1; stays out of the release: costs 'koala' 18.0 points")
    assert release_champions(worker)["releases"][-1]["current"]  # a further pass changes nothing
    (current,) = [one for one in releases(params, runs) if one["current"]]
    assert current["version"] == "1"
