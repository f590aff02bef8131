"""Promote, reject, revoke in a real MLflow: one champion whoever decides at once, and a record that shows
what was done to it."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from fade.config import PromotionPolicy
from fade.errors import AdapterError, PromotionError, RegistryError, UnknownNameError, UsageError
from fade.provenance.lineage import Lineage
from tasks.registry import decisions
from tasks.registry.connection import connect
from tasks.registry.decisions import decide, history
from tasks.registry.register import register
from tasks.registry.snapshot import RegistrySnapshot
from tasks.registry.versions import load_version
from tests.registered import finished_run

pytestmark = pytest.mark.usefixtures("alone")
Made = dict[str, Any]
GATE = PromotionPolicy()
GOOD = {"A_er": 100.0, "A_adj": 99.0, "A_heldout": 98.0, "A_rest": 99.0, "ERB": 99.5}
BASE = {"A_tar": 100.0, "A_adj": 100.0, "A_heldout": 100.0, "A_rest": 100.0}


@pytest.fixture(scope="module")
def made(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Registered by `register`: versions that pass the gate, and one that does not. A revocation is of bytes:
    those that a test revokes are its own."""
    out = {}
    good = dict.fromkeys(("1", "2", "3", "revoked", "tampered"), 98.0)
    for seed, (key, heldout) in enumerate({**good, "poor": 60.0}.items()):
        result, params, lineage, run_dir = finished_run(
            tmp_path_factory.mktemp(key), seed=seed, model_prefix="made"
        )
        lineage["outputs"] |= {"metrics": {**GOOD, "A_heldout": heldout}, "base_metrics": BASE}
        lineage["checks"] = {"data": [{"name": "unique", "severity": "critical", "success": True}]}
        Lineage(lineage).save(run_dir / "lineage.json")
        done = register(result, params, lineage, run_dir, runs=store)
        out[key] = connect(store).client.get_model_version(done.name, done.version)
    return out


def versions(store: Path, made: Made, name: str, *keys: str) -> str:
    """A model of its own with those versions, as they are: registering again takes a second each."""
    client, name = connect(store).client, f"{name}-panda"
    client.create_registered_model(name)
    for key in keys or ("1", "2"):
        one = made[key]
        client.create_model_version(name, one.source, one.run_id, tags=one.tags, model_id=one.model_id)
    return name


def aliases(store: Path, name: str) -> dict[str, str]:
    """MLflow's own, whose numbers are text or not, as the store likes."""
    return {
        alias: str(version)
        for alias, version in connect(store).client.get_registered_model(name).aliases.items()
    }


def test_the_champion_is_promoted_replaced_and_revoked(made: Made, store: Path) -> None:
    name = versions(store, made, "whole", "1", "revoked")
    client = connect(store).client
    first = decide("promote", f"{name}/1", store, GATE, by="ann")
    assert (first["number"], first["changed"], first["overridden"]) == (1, True, False)
    assert {one["name"]: one["holds"] for one in first["criteria"]} and all(
        one["holds"] for one in first["criteria"]
    )
    assert aliases(store, name) == {"champion": "1"}
    assert decide("promote", f"{name}/1", store, GATE, by="bob") == {**first, "changed": False}

    decide("promote", f"{name}/2", store, GATE, by="bob")
    assert (
        load_version(f"{name}@champion", store)
        == load_version(f"{name}/2", store)
        != load_version(f"{name}/1", store)
    )
    decide("revoke", f"{name}/2", store, GATE, by="ann", reason="an attack brings it back")
    for wanted in (f"{name}/2", name):
        with pytest.raises(AdapterError, match=f"{name}/2 was revoked"):
            load_version(wanted, store)
    with pytest.raises(UnknownNameError, match="champion"):
        load_version(f"{name}@champion", store)
    assert aliases(store, name) == {}
    tags = {v: client.get_model_version(name, v).tags["state"] for v in ("1", "2")}
    assert tags == {"1": "retired", "2": "revoked"}
    with pytest.raises(PromotionError, match="version 2 was revoked"):
        decide("promote", f"{name}/2", store, GATE, by="ann", override="please")
    found = history(name, store)
    assert [(d.number, d.action, d.version, d.by) for d in found.decisions] == [
        (1, "promote", "1", "ann"),
        (2, "promote", "2", "bob"),
        (3, "revoke", "2", "ann"),
    ]


def test_below_the_gate_only_an_override_promotes_and_it_is_kept(made: Made, store: Path) -> None:
    name = versions(store, made, "below", "poor")
    with pytest.raises(PromotionError, match=r"held-out kept 60\.0 \(asked 96\)\."):
        decide("promote", f"{name}/1", store, GATE, by="ann")
    assert history(name, store).decisions == () and aliases(store, name) == {}
    fine = versions(store, made, "fine")
    assert decide("promote", f"{fine}/1", store, GATE, by="ann", override="to be sure")["overridden"] is False
    done = decide("promote", f"{name}/1", store, GATE, by="ann", override="court order")
    (kept,) = history(name, store).decisions
    assert done["overridden"] and kept.overridden and kept.reason == "court order"
    assert [one["name"] for one in kept.criteria if not one["holds"]] == ["held-out kept"]


def test_a_version_whose_record_was_tampered_with_is_not_promoted_and_may_still_be_revoked(
    made: Made, store: Path
) -> None:
    name = versions(store, made, "retagged", "tampered")
    connect(store).client.set_model_version_tag(name, "1", "data_md5", "0" * 32)
    with pytest.raises(RegistryError, match="its tag data_md5 is"):
        decide("promote", f"{name}/1", store, GATE, by="ann", override="urgent")
    decide("revoke", f"{name}/1", store, GATE, by="ann", reason="somebody changed its tags")
    assert history(name, store).states == {"1": "revoked"}


@pytest.mark.parametrize("action", ["reject", "revoke"])
def test_a_reason_is_asked_for(tmp_path: Path, action: str) -> None:
    with pytest.raises(UsageError, match=f"to {action} needs a reason"):
        decide(action, "fade-panda/1", tmp_path / "never", GATE, by="ann", reason=" ")
    assert not (tmp_path / "never").exists()


def test_of_promotions_at_once_exactly_one_wins(
    made: Made, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = versions(store, made, "race", "1", "2", "3")
    together = Barrier(3)
    seen: Any = decisions.append_decision

    def at_once(*args: Any) -> Any:
        together.wait(60)  # all three have read the same chain
        return seen(*args)

    monkeypatch.setattr(decisions, "append_decision", at_once)

    def one(version: int) -> dict[str, Any]:
        return decide("promote", f"{name}/{version}", store, GATE, by=f"user{version}")

    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(one, version) for version in (1, 2, 3)]
    lost = [str(error) for future in asked if (error := future.exception())]
    won = [str(future.result()["version"]) for future in asked if not future.exception()]
    assert len(lost) == 2 and all("decided first" in text and "is void" in text for text in lost), lost
    found = history(name, store)
    assert len(won) == 1 and found.champion == won[0]
    assert (len(found.decisions), len(found.void)) == (1, 2)
    assert aliases(store, name) == {"champion": won[0]}


def test_a_decision_that_was_stopped_before_its_alias_is_finished_by_the_next_look(
    made: Made, store: Path
) -> None:
    name = versions(store, made, "stopped")
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom fade.config import PromotionPolicy\nfrom "
        "tasks.registry import decisions\n"
        "decisions.apply_decisions = lambda *_: os._exit(9)\n"
        f"decisions.decide('promote', '{name}/2', Path({str(store)!r}), PromotionPolicy(), by='ann')\n"
    )
    repo = Path(decisions.__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=repo, timeout=120, check=False).returncode == 9
    assert aliases(store, name) == {}
    assert load_version(f"{name}@champion", store) == load_version(
        f"{name}/2", store
    )  # the decisions say it, not the alias
    assert history(name, store).champion == "2" and aliases(store, name) == {"champion": "2"}


def test_an_alias_that_was_moved_by_hand_leads_nobody_astray(made: Made, store: Path) -> None:
    name = versions(store, made, "moved")
    decide("promote", f"{name}/1", store, GATE, by="ann")
    connect(store).client.set_registered_model_alias(name, "champion", "2")
    assert load_version(f"{name}@champion", store) == load_version(f"{name}/1", store)


def test_a_chain_that_was_edited_or_cut_is_refused_by_number(made: Made, store: Path) -> None:
    name = versions(store, made, "cut")
    for version in (1, 2):
        decide("promote", f"{name}/{version}", store, GATE, by="ann")
    tracking = connect(store)
    log, kept = (
        f"{name}.decisions",
        tracking.client.get_model_version(f"{name}.decisions", "2").tags["decision"],
    )
    for version, said in (
        (2, "decision 2 was edited, or is missing"),
        (1, "decision 1 was edited: 2 names another hash"),
    ):
        text = tracking.client.get_model_version(log, str(version)).tags["decision"]
        tracking.client.set_model_version_tag(log, str(version), "decision", text.replace("ann", "eve"))
        with pytest.raises(PromotionError, match=said):
            load_version(f"{name}/1", store)
        tracking.client.set_model_version_tag(log, str(version), "decision", text)
    assert RegistrySnapshot.load(tracking, name).standing(name).champion == "2" and kept
    tracking.client.delete_model_version(log, "2")
    with pytest.raises(PromotionError, match="decision 2 was edited, or is missing"):
        RegistrySnapshot.load(tracking, name).standing(name)
