"""Signed versions in a real MLflow: what was changed afterwards is found, whoever changed it, and named."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from fade.config import PromotionPolicy
from fade.errors import AdapterError, RegistryError, SignatureError
from fade.governance.history import VersionEvent
from fade.governance.promotion import Standing
from fade.provenance.lineage import Lineage
from fade.utils.hashing import sha256_of
from tasks.registry import signing
from tasks.registry.connection import connect
from tasks.registry.decisions import decide
from tasks.registry.register import register
from tasks.registry.snapshot import RegistrySnapshot
from tasks.registry.trust import Trust
from tasks.registry.verify import verify
from tests.registered import finished_run

pytestmark = pytest.mark.usefixtures("alone")


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return signing.make_keys(tmp_path_factory.mktemp("keys"), "team")


def trust(team: tuple[Path, Path], *, signs: bool = True) -> Trust:
    return Trust(str(team[1]), str(team[0]) if signs else "")


@pytest.fixture(scope="module")
def signed(store: Path, team: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    """One signed version; tests work on copies of the store."""
    run = finished_run(tmp_path_factory.mktemp("signed"), private_key=str(team[0]), model_prefix="signed")
    done = register(*run, runs=store)
    return f"{done.name}/{done.version}"


def test_a_signed_version_verifies(store: Path, team: tuple[Path, Path], signed: str) -> None:
    rows = {row["what"]: row["found"] for row in verify(signed, store, trust(team))}
    assert list(rows) == [
        "registration",
        "tags and record",
        "adapter",
        "header and record",
        "signature",
        "decisions",
    ]
    assert (
        rows["signature"].startswith(f"by the owner of {team[1]}")
        and "base_sha256" in rows["header and record"]
    )
    assert {row["what"]: row["found"] for row in verify(signed, store)}["signature"].startswith(
        "not asked for"
    )


def test_another_key_and_a_version_without_a_signature_are_refused(
    tmp_path: Path, store: Path, team: tuple[Path, Path], signed: str
) -> None:
    _, other = signing.make_keys(tmp_path, "other")
    with pytest.raises(SignatureError, match=r"other\.pub does not verify signed-panda.history: history 1"):
        verify(signed, store, Trust(str(other)))
    plain = register(*finished_run(tmp_path, model_prefix="plain"), runs=store)
    with pytest.raises(SignatureError, match=r"history 1 is not signed.*fade keys adopt plain-panda"):
        verify(plain.name, store, trust(team))
    with pytest.raises(SignatureError, match="is not there"):
        verify(signed, store, Trust(str(tmp_path / "none.pub")))


def other_weights(path: Path) -> None:
    with safe_open(path, framework="pt") as file:
        header, weights = file.metadata(), {key: file.get_tensor(key) * 2 for key in file.keys()}  # noqa: SIM118
    save_file(weights, path, metadata=header)


def other_header(path: Path) -> None:
    with safe_open(path, framework="pt") as file:
        header, weights = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    save_file(weights, path, metadata={**header, "fade.seed": "9"})


@pytest.mark.parametrize("edit", [other_weights, other_header])
def test_whoever_changes_the_adapter_and_its_tags_is_found(
    tmp_path: Path,
    store: Path,
    team: tuple[Path, Path],
    edit: Callable[[Path], None],
) -> None:
    """Somebody who may write to the store, and who knows which tags and which record must agree."""
    seed = 11 if edit is other_weights else 12  # bytes that no other test registers
    run = finished_run(
        tmp_path, seed, private_key=str(team[0]), model_prefix=f"forged-{edit.__name__.replace('_', '-')}"
    )
    done = register(*run, runs=store)
    verify(done.name, store, trust(team))
    client = connect(store).client
    registered = (run[3] / "adapter.safetensors").read_bytes()
    (weights,) = [p for p in store.rglob("pytorch_lora_weights.safetensors") if p.read_bytes() == registered]
    edit(weights)
    shutil.rmtree(store / "cache" / "adapters")
    with pytest.raises(AdapterError, match="has other bytes than were registered"):
        verify(done.name, store, trust(team))
    digest = sha256_of(weights)
    (record,) = store.rglob(f"*/{done.run_id}/artifacts/lineage.json")
    content = dict(Lineage.load(record).content)
    forged = Lineage({**content, "outputs": {**content["outputs"], "adapter_sha256": digest}})
    client.set_model_version_tag(done.name, "1", "adapter_sha256", digest)
    with pytest.raises(RegistryError, match="its tag adapter_sha256 is"):
        verify(done.name, store, trust(team))
    forged.save(record)
    client.set_model_version_tag(done.name, "1", "lineage_sha256", forged.sha256())
    with pytest.raises(RegistryError, match="its tag adapter_sha256 is"):
        verify(done.name, store, trust(team))
    # with everything that the registry holds made to agree, but for the signature over the two files
    log, tags = f"{done.name}.history", client.get_model_version(done.name, "1").tags
    content = json.loads(client.get_model_version(log, "1").tags["history"])
    content["content"]["tags"] |= {key: tags[key] for key in content["content"]["tags"]}
    entry = VersionEvent.parse(1, json.dumps(content))
    for key, value in {"history": entry.to_json(), "signature": sign_entry(team, log, entry)}.items():
        client.set_model_version_tag(log, "1", key, value)
    client.set_registered_model_tag(log, "head", entry.anchor)
    (store / "registry.witness.json").rename(tmp_path / "witness")
    error, match = (AdapterError, "header has seed '9'") if edit is other_header else FILES
    with pytest.raises(error, match=match):
        verify(done.name, store, trust(team))
    (tmp_path / "witness").rename(store / "registry.witness.json")


FILES = (SignatureError, "other bytes in adapter.safetensors, lineage.json")


def sign_entry(team: tuple[Path, Path], log: str, entry: VersionEvent) -> str:
    return signing.sign_text(f"{log}\n{entry.to_json()}", team[0])


def test_an_adapter_that_an_earlier_run_trained_carries_that_runs_commit_and_parameters(
    tmp_path: Path, store: Path
) -> None:
    result, params, lineage, run_dir = finished_run(tmp_path, 13, model_prefix="reused")
    lineage["code"]["commit"], lineage["params"]["sha256"] = "9" * 40, "8" * 64
    Lineage(lineage).save(run_dir / "lineage.json")
    done = register(result, params, lineage, run_dir, runs=store)
    with pytest.raises(AdapterError, match="header has params_sha256"):
        verify(done.name, store)
    lineage["training"] = {"reused": True}
    Lineage(lineage).save(run_dir / "lineage.json")
    done = register(
        {**result, "metrics": {**result["metrics"], "A_er": 1.0}}, params, lineage, run_dir, runs=store
    )
    rows = {row["what"]: row["found"] for row in verify(f"{done.name}/{done.version}", store)}
    assert rows["header and record"] == "agree in concept, base_sha256, data_md5, seed"


def test_a_gate_with_a_key_promotes_nothing_that_is_not_signed_and_no_override_helps(
    tmp_path: Path, store: Path, team: tuple[Path, Path], signed: str
) -> None:
    plain = register(*finished_run(tmp_path, model_prefix="unsigned"), runs=store)
    with pytest.raises(SignatureError, match="is not signed"):
        decide(
            "promote",
            plain.name,
            store,
            PromotionPolicy(),
            by="ann",
            override="urgent",
            trust=trust(team),
        )
    done = decide(
        "promote", signed, store, PromotionPolicy(), by="ann", override="a sample", trust=trust(team)
    )
    assert {"name": "signature", "holds": True, "value": None, "threshold": None} in done["criteria"]


def test_every_decision_is_signed_and_a_signature_of_another_text_log_or_key_is_refused(
    tmp_path: Path, store: Path, team: tuple[Path, Path]
) -> None:
    done = register(*finished_run(tmp_path, 21, private_key=str(team[0]), model_prefix="logged"), runs=store)
    label, log, client = f"{done.name}/1", f"{done.name}.decisions", connect(store).client

    def standing(trust: Trust) -> Standing:
        return RegistrySnapshot.load(connect(store), done.name, trust).standing(done.name)

    decide("promote", label, store, PromotionPolicy(), by="ann", override="a sample", trust=trust(team))
    decide("revoke", label, store, PromotionPolicy(), by="ann", reason="x", trust=trust(team))
    signature = client.get_model_version(log, "2").tags["signature"]
    assert standing(trust(team, signs=False)).states == {"1": "revoked"}

    _, other = signing.make_keys(tmp_path, "other")
    with pytest.raises(SignatureError, match=rf"other\.pub does not verify {log}: decision"):
        standing(Trust(str(other)))
    assert standing(Trust()).champion is None
    text = client.get_model_version(log, "2").tags["decision"]
    forged = {
        "of another entry": signing.sign_text("x", team[0]),
        "no signature": "!",
        "of another log": signing.sign_text(f"fade-x.decisions\n{text}", team[0]),
    }
    for value in forged.values():
        client.set_model_version_tag(log, "2", "signature", value)
        with pytest.raises(SignatureError, match="does not verify"):
            standing(trust(team))
    client.delete_model_version_tag(log, "2", "signature")
    with pytest.raises(SignatureError, match=rf"{log}: decision 2 is not signed.*keys adopt {done.name}"):
        standing(trust(team))
    client.set_model_version_tag(log, "2", "signature", signature)
    standing(trust(team))


def test_a_decision_that_cannot_be_signed_is_not_taken(
    tmp_path: Path, store: Path, team: tuple[Path, Path]
) -> None:
    done = register(*finished_run(tmp_path, 22, model_prefix="unsignable"), runs=store)
    with pytest.raises(SignatureError, match="none.pem is not there"):
        decide(
            "promote",
            done.name,
            store,
            PromotionPolicy(),
            by="ann",
            override="x",
            trust=Trust(private_key=str(tmp_path / "none.pem")),
        )
    with pytest.raises(SignatureError, match="would not be signed"):
        decide("revoke", done.name, store, PromotionPolicy(), by="ann", reason="x", trust=Trust(str(team[1])))
    assert RegistrySnapshot.load(connect(store), done.name).standing(done.name).decisions == ()


def test_keys_are_the_owners_alone_are_never_replaced_and_may_be_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = signing.make_keys(tmp_path, "a")
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    before = private.read_bytes(), public.read_bytes()
    with pytest.raises(SignatureError, match=r"a\.pem exists"):
        signing.make_keys(tmp_path, "a")
    assert (private.read_bytes(), public.read_bytes()) == before
    monkeypatch.setenv(signing.PASSWORD, "correct horse")
    locked, key = signing.make_keys(tmp_path, "locked")
    assert b"ENCRYPTED" in locked.read_bytes() and b"ENCRYPTED" not in before[0]
    (tmp_path / "file").write_text("x")
    made = signing.sign({"file": tmp_path / "file"}, locked, tmp_path / "out" / "signature.json")
    signing.verify({"file": tmp_path / "file"}, made, key)
    for password in ("wrong", ""):
        monkeypatch.setenv(signing.PASSWORD, password)
        with pytest.raises(SignatureError, match=r"locked\.pem cannot sign"):
            signing.sign({"file": tmp_path / "file"}, locked, made)
    signing.verify({"file": tmp_path / "file"}, made, key)  # the failed attempts left it
    with pytest.raises(SignatureError, match=r"Missing files .*: file"):
        signing.verify({"other": tmp_path / "file"}, made, key)
    made.write_text("{}")
    with pytest.raises(SignatureError, match="does not verify"):
        signing.verify({"file": tmp_path / "file"}, made, key)
