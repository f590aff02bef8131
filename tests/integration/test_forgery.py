"""Somebody who may write everything in MLflow, but has neither the team's private key nor its witness:
whatever is changed there is refused by every reader, with the key and, by the witness alone, without one."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from fade.config import Params, PromotionPolicy
from fade.errors import FadeError, PromotionError, SignatureError, UnknownNameError
from fade.governance.audit import BROKEN, HOLDS
from fade.run.context import RunContext
from flows.audit import audit
from tasks.registry import signing
from tasks.registry.audit_log import history as audits
from tasks.registry.connection import connect
from tasks.registry.decisions import decide
from tasks.registry.register import register
from tasks.registry.trust import Trust
from tasks.registry.verify import verify
from tasks.registry.versions import load_version
from tasks.release.build_release import select_champions
from tasks.stages.compose import compose
from tasks.stages.generate import adapter_file, erased_adapter
from tests.e2e.support import fade_each
from tests.registered import finished_run

pytestmark = pytest.mark.usefixtures("alone")
PANDA, LEMON, GATE = "fade-panda", "fade-lemon", PromotionPolicy()
WITNESS = "registry.witness.json"


@dataclass(frozen=True)
class Team:
    """A registry of a team with a key. Version 1 was champion and revoked, version 2 is champion; both have
    an audit."""

    runs: Path
    trust: Trust
    params: Params
    states: tuple[Path, ...]
    """Copies of the database: before the revocation, and now."""

    @property
    def client(self) -> MlflowClient:
        return connect(self.runs).client

    def restore(self, state: Path) -> None:
        """Set the database to a copy; connections to it stay."""
        copy_database(state, self.runs / "mlflow.db")

    def saved(self, name: str) -> Path:
        copy_database(self.runs / "mlflow.db", self.runs / name)
        return self.runs / name

    def trusted(self, keyed: bool) -> Trust:
        return self.trust if keyed else replace(self.trust, public_key="", private_key="")


def copy_database(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(source)) as one, closing(sqlite3.connect(target)) as other:
        one.backup(other)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Team:
    folder = tmp_path_factory.mktemp("team")
    private, public = signing.make_keys(folder / "keys", "team")
    trust = Trust(str(public), str(private), str(folder / WITNESS))
    signed = {"public_key": str(public), "private_key": str(private), "witness": WITNESS}
    team = Team(folder / "runs", trust, Params.model_validate({"signing": signed}), ())
    for seed in (0, 1):
        result, params, lineage, run_dir = finished_run(folder / str(seed), seed)
        params = params.model_copy(update={"signing": team.params.signing})
        register(result, params, lineage, run_dir, runs=team.runs, root=folder)
        decide("promote", f"{PANDA}/{seed + 1}", team.runs, GATE, by="ann", override="a test", trust=trust)
        (done,) = audit(f"{PANDA}/{seed + 1}", team.params, team.runs, root=folder, evidence_only=True)
        assert done["verdict"]["name"] == HOLDS, done
    before = team.saved("before.db")
    decide("revoke", f"{PANDA}/1", team.runs, GATE, by="ann", reason="comes back", trust=trust)
    return replace(team, states=(before, team.saved("now.db")))


@pytest.fixture
def team(made: Team) -> Iterator[Team]:
    witness = (made.runs.parent / WITNESS).read_bytes()
    yield made
    made.restore(made.states[-1])
    (made.runs.parent / WITNESS).write_bytes(witness)
    shutil.rmtree(made.runs / "cache", ignore_errors=True)


def load(team: Team, label: str, trust: Trust) -> Any:
    return load_version(label, team.runs, trust)


def verified(team: Team, label: str, trust: Trust) -> Any:
    return verify(label, team.runs, trust)


def promote(team: Team, label: str, trust: Trust) -> Any:
    return decide("promote", label, team.runs, GATE, by="eve", override="please", trust=trust)


def released(team: Team, label: str, trust: Trust) -> Any:
    params = team.params if trust.public_key else team.params.model_copy(update={"signing": unkeyed(team)})
    found = select_champions(connect(team.runs), params, team.runs, team.runs.parent)
    assert label in found.labels
    return found


def audited(team: Team, label: str, trust: Trust) -> Any:
    """An audit refuses nothing: it finds, and says so."""
    params = team.params if trust.public_key else team.params.model_copy(update={"signing": unkeyed(team)})
    (found,) = audit(label, params, team.runs, root=team.runs.parent, evidence_only=True)
    if found["verdict"]["name"] == BROKEN:
        raise PromotionError(found["verdict"]["said"], tampered=True)
    return found


def unkeyed(team: Team) -> Any:
    return team.params.signing.model_copy(update={"public_key": "", "private_key": ""})


READERS = (load, verified, promote, audited)


def log_of(team: Team, log: str) -> list[dict[str, str]]:
    """The tags of a log's entries, in order."""
    versions = team.client.search_model_versions(f"name = '{log}'")
    return [dict(one.tags) for one in sorted(versions, key=lambda one: int(one.version))]


def rewrite(team: Team, log: str, entries: list[dict[str, str]], head: str = "") -> None:
    """A log made anew, with just these entries."""
    client = team.client
    client.delete_registered_model(log)
    client.create_registered_model(log, tags={"head": head} if head else None)
    for tags in entries:
        client.create_model_version(log, f"models:/{PANDA}/1", tags=tags)


def decisions_deleted(team: Team) -> None:
    team.client.delete_registered_model(f"{PANDA}.decisions")


def last_decision_cut(team: Team) -> None:
    log = f"{PANDA}.decisions"
    team.client.delete_model_version(log, "3")
    team.client.delete_registered_model_tag(log, "head")


def log_rewritten(team: Team) -> None:
    rewrite(team, f"{PANDA}.decisions", log_of(team, f"{PANDA}.decisions")[:1])


def store_set_back(team: Team) -> None:
    """Everything as it was before the revocation, with the head of then."""
    team.restore(team.states[0])


def entries_reordered(team: Team) -> None:
    first, second, third = log_of(team, f"{PANDA}.decisions")
    rewrite(team, f"{PANDA}.decisions", [second, first, third])


def decision_edited(team: Team) -> None:
    log = f"{PANDA}.decisions"
    text = log_of(team, log)[2]["decision"].replace('"revoke"', '"promote"')
    team.client.set_model_version_tag(log, "3", "decision", text)
    team.client.delete_registered_model_tag(log, "head")


def history_deleted_and_renumbered(team: Team) -> None:
    rewrite(team, f"{PANDA}.history", log_of(team, f"{PANDA}.history")[:1])


OF_THE_REVOKED = (
    decisions_deleted,
    last_decision_cut,
    log_rewritten,
    store_set_back,
    entries_reordered,
    decision_edited,
)


@pytest.mark.parametrize("keyed", [True, False], ids=["key", "witness-alone"])
@pytest.mark.parametrize("attack", OF_THE_REVOKED)
def test_a_revocation_cannot_be_removed(team: Team, attack: Callable[[Team], None], keyed: bool) -> None:
    attack(team)
    for reader in READERS:
        with pytest.raises(FadeError):
            reader(team, f"{PANDA}/1", team.trusted(keyed))
    with pytest.raises(FadeError):
        released(team, f"{PANDA}/1", team.trusted(keyed))


def test_control_without_an_attack_the_champion_is_believed(team: Team) -> None:
    for keyed in (True, False):
        for reader in (*READERS, released):
            reader(team, f"{PANDA}/2", team.trusted(keyed))
        load(team, f"{PANDA}@champion", team.trusted(keyed))


def test_the_last_decision_set_back_makes_no_other_champion(team: Team) -> None:
    log, client = f"{PANDA}.decisions", team.client
    for number in ("3", "2"):
        client.delete_model_version(log, number)
    client.delete_registered_model_tag(log, "head")
    client.set_registered_model_alias(PANDA, "champion", "1")
    for keyed in (True, False):
        with pytest.raises(PromotionError, match=r"decision 3 .* is missing; .*witness.json remembers"):
            load(team, f"{PANDA}@champion", team.trusted(keyed))
        with pytest.raises(PromotionError, match="decision 3"):
            select_champions(connect(team.runs), team.params, team.runs, team.runs.parent)


def hash_tags_deleted(team: Team) -> None:
    for tag in ("adapter_sha256", "lineage_sha256", "data_md5", "base_sha256", "params_sha256", "commit"):
        team.client.delete_model_version_tag(PANDA, "2", tag)


def tag_edited(key: str, value: str) -> Callable[[Team], None]:
    def edit(team: Team) -> None:
        team.client.set_model_version_tag(PANDA, "2", key, value)

    edit.__name__ = f"{key}_edited"
    return edit


OF_TAGS = (
    hash_tags_deleted,
    tag_edited("method", "esd"),
    tag_edited("seed", "9"),
    tag_edited("neighbours", '["lion"]'),
    tag_edited("neighbours", "no JSON"),
    tag_edited("target", "koala"),
    tag_edited("evaluation_sha256", "0" * 64),
)


@pytest.mark.parametrize("attack", OF_TAGS)
def test_a_tag_that_people_trust_cannot_be_changed(team: Team, attack: Callable[[Team], None]) -> None:
    attack(team)
    for keyed in (True, False):
        for reader in READERS:
            with pytest.raises(FadeError, match=f"{PANDA}/2: its tag .* it was registered with"):
                reader(team, f"{PANDA}/2", team.trusted(keyed))


def test_a_version_without_its_registration_is_refused_with_a_key_and_the_witness_misses_it_without(
    team: Team,
) -> None:
    team.client.delete_registered_model(f"{PANDA}.history")
    for keyed in (True, False):
        with pytest.raises(FadeError, match="history 2 was edited, or is missing"):
            load(team, f"{PANDA}/2", team.trusted(keyed))
    (team.runs.parent / WITNESS).unlink()
    with pytest.raises(SignatureError, match=f"2 has no signed registration.*fade keys adopt {PANDA}"):
        load(team, f"{PANDA}/2", team.trusted(True))


@pytest.mark.parametrize("logs", [(), (".decisions", ".history", ".audits")], ids=["model", "with-its-logs"])
def test_a_renamed_model_is_refused(team: Team, logs: tuple[str, ...]) -> None:
    for end in ("", *logs):
        team.client.rename_registered_model(f"{PANDA}{end}", f"other-panda{end}")
    for keyed in (True, False):
        for reader in (load, verified, promote):
            with pytest.raises(FadeError):
                reader(team, "other-panda/1", team.trusted(keyed))
            with pytest.raises(UnknownNameError):
                reader(team, f"{PANDA}/1", team.trusted(keyed))
    with pytest.raises(SignatureError):
        load(team, "other-panda/2", team.trusted(True))


@pytest.mark.parametrize("model", [PANDA, "mine-panda"])
def test_revoked_bytes_that_are_registered_again_are_revoked(team: Team, model: str, tmp_path: Path) -> None:
    """Even by the team itself, signed and in order."""
    result, params, lineage, run_dir = finished_run(tmp_path, 0)
    source = team.runs.parent / "0" / "runs" / "erase" / "panda" / "key0"
    lineage = json.loads((source / "lineage.json").read_text())
    params = params.model_copy(update={"signing": team.params.signing})
    shutil.copytree(source, run_dir, dirs_exist_ok=True)
    other = {**result, "metrics": {**result["metrics"], "A_er": 12.0}}
    done = register(other, params, lineage, run_dir, runs=team.runs, root=team.runs.parent, name=model)
    label = f"{done.name}/{done.version}"
    assert label not in (f"{PANDA}/1", f"{PANDA}/2")
    for keyed in (True, False):
        with pytest.raises(FadeError, match=f"was revoked: it has {PANDA}/1's bytes"):
            load(team, label, team.trusted(keyed))
        with pytest.raises(PromotionError, match=f"has the bytes of {PANDA}/1, which was revoked"):
            promote(team, label, team.trusted(keyed))


def test_a_version_that_is_copied_into_another_concepts_model_is_refused(team: Team) -> None:
    client, one = team.client, team.client.get_model_version(PANDA, "2")
    client.create_registered_model(LEMON)
    client.create_model_version(LEMON, str(one.source), one.run_id, tags=one.tags, model_id=one.model_id)
    for reader in READERS:
        with pytest.raises(FadeError, match=f"{LEMON}/1 has no signed registration"):
            reader(team, f"{LEMON}/1", team.trusted(True))
    for reader in (verified, promote, audited):
        with pytest.raises(FadeError, match=f"{LEMON}/1 erases 'panda'"):
            reader(team, f"{LEMON}/1", team.trusted(False))
    # with the log of registrations, too
    client.create_registered_model(f"{LEMON}.history")
    for tags in log_of(team, f"{PANDA}.history"):
        client.create_model_version(f"{LEMON}.history", f"models:/{LEMON}/1", tags=tags)
    for reader in READERS:
        with pytest.raises(FadeError, match="does not verify fade-lemon.history"):
            reader(team, f"{LEMON}/1", team.trusted(True))
    with pytest.raises(FadeError, match=f"{LEMON}/1 was registered as {PANDA}/1"):
        load(team, f"{LEMON}/1", team.trusted(False))


def test_audits_whose_end_was_cut_are_missed_on_another_machine(team: Team, tmp_path: Path) -> None:
    log, client = f"{PANDA}.audits", team.client
    client.delete_model_version(log, "2")
    client.delete_registered_model_tag(log, "head")
    client.delete_model_version_tag(PANDA, "2", "audit.mark")
    for keyed in (True, False):
        with pytest.raises(FadeError, match=r"audit 2 .* is missing; .*registry.witness.json remembers"):
            audits(PANDA, team.runs, team.trusted(keyed))
        with pytest.raises(FadeError, match="audit 2"):
            audited(team, f"{PANDA}/2", team.trusted(keyed))


def test_an_entry_that_a_forger_appends_is_refused_with_a_key(team: Team) -> None:
    decide("promote", f"{PANDA}/2", team.runs, GATE, by="eve", override="x", trust=team.trusted(False))
    decide("revoke", f"{PANDA}/2", team.runs, GATE, by="eve", reason="x", trust=team.trusted(False))
    for reader in READERS:
        with pytest.raises(FadeError, match="decision 4 is not signed"):
            reader(team, f"{PANDA}/2", team.trusted(True))


def test_champion_follows_decisions_also_where_there_are_none(team: Team) -> None:
    result, params, lineage, run_dir = finished_run(team.runs.parent / "none", 7, model_prefix="none")
    register(
        result,
        params.model_copy(update={"signing": team.params.signing}),
        lineage,
        run_dir,
        runs=team.runs,
        root=team.runs.parent,
    )
    team.client.set_registered_model_alias("none-panda", "champion", "1")
    for keyed in (True, False):
        with pytest.raises(UnknownNameError, match="champion"):
            load(team, "none-panda@champion", team.trusted(keyed))
        load(team, "none-panda/1", team.trusted(keyed))


def test_a_witness_that_cannot_be_read_or_written_says_so(team: Team) -> None:
    witness = team.runs.parent / WITNESS
    good = witness.read_text()
    witness.write_text("<<<<<<< HEAD\n" + good)
    with pytest.raises(FadeError, match=r"registry\.witness\.json cannot be read"):
        load(team, f"{PANDA}/2", team.trust)
    witness.write_text(good)
    unwritable = replace(team.trust, witness="/proc/none/witness.json")
    load(team, f"{PANDA}/2", unwritable)  # to read needs no writable folder
    with pytest.raises(FadeError, match=r"the witness /proc/none cannot be written.*signing\.witness"):
        decide("revoke", f"{PANDA}/2", team.runs, GATE, by="ann", reason="x", trust=unwritable)
    assert len(log_of(team, f"{PANDA}.decisions")) == 3  # nothing was appended


def test_pictures_and_sums_are_made_of_verified_versions_alone(team: Team) -> None:
    root = team.runs.parent
    run = RunContext(team.params, "", team.runs, root)
    assert adapter_file(f"{PANDA}/2", run) == load(team, f"{PANDA}/2", team.trust)
    team.client.set_model_version_tag(PANDA, "2", "method", "esd")
    decisions_deleted(team)
    for label in (f"{PANDA}/1", f"{PANDA}/2"):
        with pytest.raises(FadeError, match=PANDA):
            adapter_file(label, run)
        with pytest.raises(FadeError, match=PANDA):
            erased_adapter(label, run, "purify")
        with pytest.raises(FadeError, match=PANDA):
            compose(team.params, [label], root / "sum.safetensors", team.runs, root)


def test_a_revocation_is_signed_whatever_else_is_wrong_in_params_yaml(team: Team) -> None:
    signing = team.params.signing
    broken = team.runs.parent / "params.yaml"
    broken.write_text(
        f"train: [\nsigning:\n  private_key: {signing.private_key}\n  public_key: {signing.public_key}\n"
        f"  witness: {WITNESS}\ngate: {{{{\n"
    )
    line = ["revoke", f"{PANDA}/2", "--reason", "x", "--by", "ann", "--json", "--params", str(broken)]
    (done,) = fade_each(line, runs=team.runs)
    assert done.returncode == 0, done.stderr
    assert log_of(team, f"{PANDA}.decisions")[3]["signature"]
    with pytest.raises(FadeError, match=f"{PANDA}/2 was revoked"):
        load(team, f"{PANDA}/2", team.trust)
    assert len(team.trust.witness_file(connect(team.runs)).read().revoked) == 2
