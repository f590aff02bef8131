"""Releases in a real MLflow, with adapters of a few bytes: who goes in, who may load, the way back, and the
card that follows."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import pytest

from fade.config import Params, PromotionPolicy
from fade.errors import AdapterError, FadeError, PromotionError, RegistryError
from fade.provenance.lineage import Lineage
from fade.reporting.card import ROOM
from fade.utils.hashing import sha256_of
from tasks.registry import releases as releases_module
from tasks.registry.card import refresh
from tasks.registry.connection import connect
from tasks.registry.decisions import decide, history
from tasks.registry.register import register, register_pending
from tasks.registry.releases import current_holding, releases, rollback
from tasks.registry.verify import verify
from tasks.registry.versions import load_version
from tasks.release.build_release import find_release, require_not_revoked, select_champions
from tests.registered import adapter_bytes, finished_run

pytestmark = pytest.mark.usefixtures("alone")
GATE = PromotionPolicy()
NUMBERS = {"A_er": 100.0, "A_adj": 99.0, "A_heldout": 98.0, "A_rest": 99.0, "ERB": 99.5}
BASE = {"A_tar": 100.0, "A_adj": 100.0, "A_heldout": 100.0, "A_rest": 100.0}


def registered(
    store: Path,
    tmp_path: Path,
    prefix: str,
    concept: str,
    seed: int = 0,
    parts: dict[str, Any] | None = None,
    **changes: Any,
) -> str:
    """A version that passes the gate, and its label; with ``parts`` a release."""
    folder = tmp_path / f"{prefix}-{concept}-{seed}"
    folder.mkdir()
    result, params, lineage, run_dir = finished_run(folder, seed=seed, model_prefix=prefix)
    result["target"] = lineage["neighbourhood"]["target"] = concept
    lineage["base"] = {"sha256": changes.get("base", "1" * 64)}
    header = {
        "concept": concept,
        "base_sha256": lineage["base"]["sha256"],
        "data_md5": lineage["data"]["md5"],
        "params_sha256": params.sha256(),
        "seed": str(lineage["seeds"]["train"]),
        "commit": lineage["code"]["commit"],
    }
    if parts:
        lineage["parts"] = parts
        header["parts"] = json.dumps([{"sha256": part["adapter_sha256"]} for part in parts.values()])
    if "erase" in changes:
        lineage["params"]["values"] = {"data": {"erase": changes["erase"]}}
    data = adapter_bytes(seed, header)
    (run_dir / "adapter.safetensors").write_bytes(data)
    (run_dir / "card.md").write_text(
        changes.get("card", f"# {concept}\n\n## State\n\n- old\n\n## Use\n\nx\n"), encoding="utf-8"
    )
    lineage["outputs"] = {
        "adapter_sha256": hashlib.sha256(data).hexdigest(),
        "metrics": NUMBERS,
        "base_metrics": BASE,
    }
    lineage["checks"] = {"data": [{"name": "unique", "severity": "critical", "success": True}]}
    Lineage(lineage).save(run_dir / "lineage.json")
    done = register(result, params, lineage, run_dir, runs=store, name=f"{prefix}.release" if parts else "")
    return f"{done.name}/{done.version}"


def champion(store: Path, tmp_path: Path, prefix: str, concept: str, **changes: Any) -> str:
    label = registered(store, tmp_path, prefix, concept, **changes)
    decide("promote", label, store, GATE, by="ann")
    return label


def params_of(prefix: str) -> Params:
    return Params.model_validate({"register": {"model_prefix": prefix}})


def chosen(store: Path, prefix: str) -> Any:
    return select_champions(connect(store), params_of(prefix), store)


def release_of(store: Path, tmp_path: Path, prefix: str, seed: int, **changes: Any) -> str:
    """A release of the prefix's champions, registered but not decided."""
    found = chosen(store, prefix)
    parts = {part.label: part.to_json() for part in found.parts}
    return registered(store, tmp_path, prefix, " + ".join(found.concepts), seed=seed, parts=parts, **changes)


def test_the_champions_by_the_decisions_go_in_and_nobody_else(store: Path, tmp_path: Path) -> None:
    panda = champion(store, tmp_path, "who", "panda")
    other = registered(store, tmp_path, "who", "panda", seed=1)
    lemon, style = (
        champion(store, tmp_path, "who", "lemon"),
        champion(store, tmp_path, "who", "noto", erase="styles"),
    )
    registered(store, tmp_path, "who", "tulip")  # nobody promoted it
    champion(store, tmp_path, "who-dev", "taxi")  # another prefix
    revoked = champion(store, tmp_path, "who", "koala")
    decide("revoke", revoked, store, GATE, by="ann", reason="x")
    connect(store).client.set_registered_model_alias("who-panda", "champion", other.split("/")[1])
    found = chosen(store, "who")
    assert [part.label for part in found.parts] == [lemon, panda] and found.left_out == [style]
    assert found.adapters[panda] == load_version(panda, store)
    connect(store).client.set_model_version_tag("who-panda", panda.split("/")[1], "data_md5", "0" * 32)
    with pytest.raises(RegistryError, match="its tag data_md5 is"):
        chosen(store, "who")


def test_a_champion_whose_tag_or_version_is_gone_is_not_left_out_in_silence(
    store: Path, tmp_path: Path
) -> None:
    champion(store, tmp_path, "lost", "lemon")
    name, number = champion(store, tmp_path, "lost", "panda").split("/")
    client = connect(store).client
    client.set_model_version_tag(name, number, "target", "taxi")
    with pytest.raises(RegistryError, match="lost-panda/1: its tag target is taxi"):
        chosen(store, "lost")
    client.set_model_version_tag(name, number, "target", "panda")
    assert chosen(store, "lost").labels == ["lost-lemon/1", "lost-panda/1"]
    client.delete_model_version(name, number)
    with pytest.raises(RegistryError, match="lost-panda/1 is the champion by the decisions"):
        chosen(store, "lost")


def test_champions_of_two_bases_and_no_champion_are_refused(store: Path, tmp_path: Path) -> None:
    registered(store, tmp_path, "bases", "panda")
    with pytest.raises(PromotionError, match="no concept has a champion"):
        chosen(store, "bases")
    decide("promote", "bases-panda/1", store, GATE, by="ann")
    champion(store, tmp_path, "bases", "lemon", base="2" * 64)
    with pytest.raises(AdapterError, match=r"222222222222: bases-lemon/1; 111111111111: bases-panda/1"):
        chosen(store, "bases")


def test_a_release_is_verified_with_its_parts_and_refuses_to_load_when_one_is_revoked(
    store: Path, tmp_path: Path
) -> None:
    parts = [champion(store, tmp_path, "held", concept) for concept in ("lemon", "panda")]
    label = release_of(store, tmp_path, "held", seed=5)
    rows = {row["what"]: row["found"] for row in verify(label, store)}
    assert rows["header and record"] == "agree in concept, base_sha256, parts"
    assert all(rows[part].startswith("verified; is what went in") for part in parts)
    decide("promote", label, store, GATE, by="ann")
    assert load_version("held.release@champion", store) == load_version(label, store)

    client = connect(store).client
    client.set_model_version_tag("held.release", "1", "parts", json.dumps(parts[:1]))
    with pytest.raises(RegistryError, match="its tag parts is"):
        verify(label, store)
    client.set_model_version_tag("held.release", "1", "parts", json.dumps(parts))

    decide("revoke", parts[1], store, GATE, by="ann", reason="comes back")
    for name in (label, "held.release@champion"):
        with pytest.raises(AdapterError, match="held.release/1 holds held-panda/1, which was revoked"):
            load_version(name, store)
    (row,) = releases(params_of("held"), store)
    assert (row["revoked"], row["current"], row["state"]) == ([parts[1]], True, "champion")
    unpromoted = registered(store, tmp_path, "held", "lemon + panda", seed=6, parts=_recorded(store, label))
    with pytest.raises(PromotionError, match="holds held-panda/1, which was revoked"):
        decide("promote", unpromoted, store, GATE, by="ann", override="urgent")


def _recorded(store: Path, label: str) -> dict[str, Any]:
    from tasks.registry.lineage import read
    from tasks.registry.versions import load_snapshot, resolve

    snapshot = load_snapshot(connect(store), label)
    return dict(read(snapshot, resolve(snapshot, label)).lineage.content["parts"])


def test_a_champion_that_is_revoked_while_the_release_is_built_stops_it(store: Path, tmp_path: Path) -> None:
    for concept in ("lemon", "panda"):
        champion(store, tmp_path, "meanwhile", concept)
    parts, params = chosen(store, "meanwhile"), params_of("meanwhile")
    require_not_revoked(connect(store), params, parts, Path())
    decide("revoke", "meanwhile-panda/1", store, GATE, by="ann", reason="an attack")
    with pytest.raises(PromotionError, match="meanwhile-panda/1 was revoked while the release was built"):
        require_not_revoked(connect(store), params, parts, Path())


def test_the_current_release_that_holds_a_version_is_named(store: Path, tmp_path: Path) -> None:
    labels = [champion(store, tmp_path, "holding", concept) for concept in ("green lemon", "panda")]
    assert current_holding(labels[0], store) == ""  # no release yet
    release = release_of(store, tmp_path, "holding", seed=5)
    assert current_holding(labels[0], store) == ""  # none is current
    decide("promote", release, store, GATE, by="ann")
    decide("revoke", labels[0], store, GATE, by="ann", reason="an attack")
    assert current_holding(labels[0], store) == release
    assert current_holding("holding-lemon/9", store) == ""


def test_a_champion_that_is_not_what_went_in_is_found(store: Path, tmp_path: Path) -> None:
    for concept in ("lemon", "panda"):
        champion(store, tmp_path, "swapped", concept)
    parts = {
        part.label: {**part.to_json(), "lineage_sha256": "9" * 64} for part in chosen(store, "swapped").parts
    }
    label = registered(store, tmp_path, "swapped", "lemon + panda", seed=5, parts=parts)
    with pytest.raises(RegistryError, match=r"was made of swapped-lemon/1 with lineage_sha256 9{64}"):
        verify(label, store)


def test_a_rollback_is_a_decision_of_the_very_bytes_and_of_two_at_once_one_is_void(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for concept in ("lemon", "panda"):
        champion(store, tmp_path, "back", concept)
    params = params_of("back")
    labels = [release_of(store, tmp_path, "back", seed=seed) for seed in (5, 6, 7)]
    with pytest.raises(PromotionError, match="no release was ever current"):
        rollback(params, store, by="ann", reason="x")
    for label in labels:
        decide("promote", label, store, GATE, by="ann")
    bytes_before = sha256_of(load_version(labels[1], store))
    done = rollback(params, store, by="bob", reason="the lemon is back")
    assert (done["from"], done["to"], done["reason"], done["overridden"]) == (
        "3",
        "2",
        "rollback of 3: the lemon is back",
        False,
    )
    assert done["adapter_sha256"] == bytes_before == sha256_of(load_version("back.release@champion", store))
    assert [row["taken_back"]["by"] if row["taken_back"] else None for row in releases(params, store)] == [
        "bob",
        None,
        None,
    ]
    for to, message in (("2", "it is current"), ("9", "back.release/9")):
        with pytest.raises(FadeError, match=message):
            rollback(params, store, by="ann", reason="x", to=to)
    assert rollback(params, store, by="ann", reason="x", to="3")["to"] == "3"

    seen = releases_module.decide

    def overtaken(*args: Any, **kwargs: Any) -> Any:
        decide("promote", labels[0], store, GATE, by="eve")  # between the look and the decision
        return seen(*args, **kwargs)

    monkeypatch.setattr(releases_module, "decide", overtaken)
    with pytest.raises(PromotionError, match="eve decided first"):
        rollback(params, store, by="ann", reason="x")
    assert history("back.release", store).champion == "1"


def test_a_rollback_skips_what_was_revoked_and_refuses_bytes_that_changed(
    store: Path, tmp_path: Path
) -> None:
    champion(store, tmp_path, "skip", "lemon")
    champion(store, tmp_path, "skip", "panda")
    labels = [release_of(store, tmp_path, "skip", seed=seed) for seed in (5, 6)]
    for label in labels:
        decide("promote", label, store, GATE, by="ann")
    decide("revoke", labels[1], store, GATE, by="ann", reason="x")
    first = load_version(labels[0], store)
    registered_bytes = first.read_bytes()
    first.unlink()
    (stored,) = [
        p for p in store.rglob("pytorch_lora_weights.safetensors") if p.read_bytes() == registered_bytes
    ]
    stored.write_bytes(registered_bytes[:-1] + b"x")
    with pytest.raises(AdapterError, match="other bytes than were registered"):
        rollback(params_of("skip"), store, by="ann", reason="x")
    assert history("skip.release", store).champion is None
    stored.write_bytes(registered_bytes)
    done = rollback(params_of("skip"), store, by="ann", reason="x")
    assert (done["from"], done["to"]) == ("2", "1") and load_version(
        "skip.release@champion", store
    ).read_bytes() == registered_bytes


def test_a_release_is_found_again_by_its_parts_and_settings(store: Path, tmp_path: Path) -> None:
    champion(store, tmp_path, "again", "panda")
    found, params = chosen(store, "again"), params_of("again")
    assert find_release(connect(store), found, params) is None
    release_of(store, tmp_path, "again", seed=5)
    from fade.governance.release_plan import key

    connect(store).client.set_model_version_tag(
        "again.release", "1", "run_key", key(found.parts, params, signed=True)
    )
    again = find_release(connect(store), found, params)
    assert again is not None and str(again.version) == "1"  # a signed one will do where nothing is signed
    assert (
        find_release(
            connect(store),
            found,
            Params.model_validate({**params.model_dump(by_alias=True), "sampler": {"steps": 3}}),
        )
        is None
    )


def test_a_release_that_could_not_be_registered_is_registered_later_under_its_name(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, params, lineage, run_dir = finished_run(tmp_path, model_prefix="later")
    lineage["parts"] = {
        "later-panda/1": {"adapter_sha256": "a" * 64, "lineage_sha256": "c" * 64, "concepts": ["panda"]}
    }
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(RegistryError):
        register(result, params, lineage, run_dir, runs=store, name="later.release")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert register_pending(run_dir, runs=store).name == "later.release"


# The card.


def description(store: Path, name: str, version: str) -> str:
    return str(connect(store).client.get_model_version(name, version).description)


def test_the_description_is_the_card_and_follows_decisions_and_audits(store: Path, tmp_path: Path) -> None:
    first = registered(
        store, tmp_path, "card", "panda", card="# panda\n\n## State\n\n- old\n\n## Use\n\n" + "x" * 6000
    )
    registered(store, tmp_path, "card", "panda", seed=1)
    assert len(description(store, "card-panda", "1")) <= ROOM
    decide("promote", first, store, GATE, by="ann <b>")
    assert r"- Decisions: champion; last: promote by ann \<b\> at 20" in description(store, "card-panda", "1")
    decide("promote", "card-panda/2", store, GATE, by="bob", reason="better")
    assert "- Decisions: retired; last: promote by ann" in description(store, "card-panda", "1")
    assert "(better)" in description(store, "card-panda", "2") and "- Audit: not audited." in description(
        store, "card-panda", "2"
    )

    tracking = connect(store)
    for key, value in {"verdict": "reproduced", "at": "2026-01-01", "by": "eve"}.items():
        tracking.client.set_model_version_tag("card-panda", "2", f"audit.{key}", value)
    spent = []
    for _ in range(3):  # the fastest: other work on the machine is not what is measured
        start = time.perf_counter()
        text = refresh(tracking, tracking.client.get_model_version("card-panda", "2"))
        spent.append(time.perf_counter() - start)
    assert min(spent) < 0.5
    assert (
        text == description(store, "card-panda", "2") and "- Audit: reproduced by eve at 2026-01-01." in text
    )
    text = refresh(
        tracking, tracking.client.get_model_version("card-panda", "2"), audit={"verdict": "differs"}
    )
    assert text is not None and "- Audit: differs." in text and "eve" not in text


def test_a_version_without_a_card_stays_as_it_is_and_a_card_that_cannot_be_written_undoes_no_decision(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.registry import decisions

    plain = register(*finished_run(tmp_path, model_prefix="plain-card"), runs=store)
    tracking = connect(store)
    assert refresh(tracking, tracking.client.get_model_version(plain.name, "1")) is None
    label = registered(store, tmp_path, "stuck", "panda")

    def fails(*_: Any, **__: Any) -> None:
        raise RegistryError("the store is read-only.", stage="card")

    monkeypatch.setattr(decisions, "refresh", fails)
    done = decide("promote", label, store, GATE, by="ann")
    assert done["changed"] and done["cards"] == ["stuck-panda/1: card: the store is read-only."]
    assert history("stuck-panda", store).champion == "1"
