"""Audits against a real MLflow and real git: evidence in seconds, a history that nobody edits unseen, and
what is missing named."""

from __future__ import annotations

import json
import subprocess
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from fade.config import Params, PromotionPolicy
from fade.errors import AuditError, FadeError
from fade.governance.audit import BROKEN, HOLDS, MISSING
from fade.utils.hashing import sha256_of
from flows.audit import audit, versions
from tasks.launch.git_worktree import checkout, file_at, has_commit
from tasks.registry import audit_log as chain
from tasks.registry.audit_log import history
from tasks.registry.connection import connect
from tasks.registry.decisions import decide
from tasks.registry.register import register
from tests.registered import finished_run

pytestmark = pytest.mark.usefixtures("alone")
PARAMS = Params()


@pytest.fixture
def one(store: Path, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A registered version of a model of its own, NAME/1."""
    name = f"audit-{zlib.crc32(request.node.name.encode()):08x}"
    result, params, lineage, run_dir = finished_run(tmp_path, model_prefix=name)
    done = register(result, params, lineage, run_dir, runs=store)
    return f"{done.name}/{done.version}"


def evidence(selection: str, store: Path, **more: Any) -> dict[str, Any]:
    (found,) = audit(selection, PARAMS, store, evidence_only=True, **more)
    return found


def test_evidence_is_recorded_with_its_report_and_the_version_says_so(one: str, store: Path) -> None:
    name, version = one.split("/")
    first = evidence(one, store, by="ann")
    assert first["verdict"]["name"] == HOLDS and first["good"] and first["number"] == 1
    assert {row["what"] for row in first["evidence"]} >= {
        "tags and record",
        "adapter",
        "header and record",
        "decisions",
        "audits",
        "code",
    }
    assert evidence(one, store, by="bob")["number"] == 2
    client = connect(store).client
    tags = client.get_model_version(name, version).tags
    assert (tags["audit.verdict"], tags["audit.by"]) == (HOLDS, "bob")
    kept = history(name, store)
    assert [(audit.number, audit.by, audit.version) for audit in kept] == [
        (1, "ann", version),
        (2, "bob", version),
    ]
    files = {file.path for file in client.list_artifacts(kept[0].run_id)}
    assert files == {"audit.json", "audit.html"}
    report = Path(first["report"])
    assert sha256_of(report.with_name("audit.json")) == kept[0].report_sha256
    page = report.read_text(encoding="utf-8")
    assert (
        HOLDS in page
        and 'src="http' not in page
        and json.loads(report.with_name("audit.json").read_text())["recorded"]
    )


def test_a_changed_tag_breaks_the_evidence_and_that_is_recorded_too(one: str, store: Path) -> None:
    name, version = one.split("/")
    connect(store).client.set_model_version_tag(name, version, "base_sha256", "0" * 64)
    found = evidence(one, store)
    assert (
        found["verdict"]["name"] == BROKEN and "base_sha256" in found["verdict"]["said"] and not found["good"]
    )
    assert [audit.verdict for audit in history(name, store)] == [BROKEN]


def test_a_revoked_version_can_be_audited(one: str, store: Path) -> None:
    decide("revoke", one, store, PromotionPolicy(), by="ann", reason="a test")
    assert evidence(one, store)["verdict"]["name"] == HOLDS


def test_code_that_is_not_here_cannot_be_run_again(one: str, store: Path) -> None:
    (found,) = audit(one, PARAMS, store)
    assert (
        found["verdict"]["name"] == MISSING
        and "commit dddddddd" in found["verdict"]["said"]
        and not found["good"]
    )


@pytest.mark.parametrize(
    ("model", "where", "says"),
    [
        ("base", "/gone/sd14", "the base: /gone/sd14 is not there"),
        ("base", "./models/sd14", "models/sd14 is not there"),
        (
            "base",
            "gone-team/sd14",
            "the base: gone-team/sd14 is no local directory and is not in",
        ),
        ("judge", "/gone/judge", "the judge: /gone/judge is not there"),
    ],
)
def test_a_model_that_has_vanished_is_named_and_the_evidence_holds(
    store: Path, tmp_path: Path, model: str, where: str, says: str
) -> None:
    code = tmp_path / "code"
    code.mkdir()
    author = ("-c", "user.name=ann", "-c", "user.email=ann@example.org")
    for line in (("init", "-q"), (*author, "commit", "-q", "--allow-empty", "-m", "one")):
        subprocess.run(["git", *line], cwd=code, check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=code, check=True, capture_output=True, text=True)
    name = f"vanished-{zlib.crc32(where.encode()):08x}"
    changes = {"model_prefix": name, "commit": head.stdout.strip(), "data": {model: where}}
    result, params, lineage, run_dir = finished_run(tmp_path, **changes)
    done = register(result, params, lineage, run_dir, runs=store)
    (found,) = audit(f"{done.name}/{done.version}", PARAMS, store, repository=code)
    held = {row["what"]: row["holds"] for row in found["evidence"]}
    assert all(held[row] for row in ("tags and record", "adapter", "header and record", "code")), held
    verdict = found["verdict"]
    assert (verdict["name"], found["good"]) == (MISSING, False)
    assert says in verdict["said"] and f"back as {where}" in verdict["said"]
    assert model != "base" or f"of sha256 {'1' * 64}" in verdict["said"]
    assert found["number"] == 1, "it is in the log"


@pytest.mark.parametrize("harm", ["edit", "cut", "erase"])
def test_history_that_was_touched_is_found_by_the_next_audit(one: str, store: Path, harm: str) -> None:
    name, _ = one.split("/")
    for _ in range(2):
        evidence(one, store, by="ann")
    client = connect(store).client
    if harm == "edit":
        kept = client.get_model_version(f"{name}.audits", "1").tags["audit"]
        client.set_model_version_tag(f"{name}.audits", "1", "audit", kept.replace("ann", "eve"))
    elif harm == "cut":
        client.delete_model_version(f"{name}.audits", "2")
    else:
        client.delete_registered_model(f"{name}.audits")
    with pytest.raises(AuditError, match="audit [12]"):
        history(name, store)
    found = evidence(one, store)
    assert found["verdict"]["name"] == BROKEN and not found["good"] and "audit" in found["verdict"]["said"]
    assert found["number"] is None and found["unrecorded"]  # a chain that is broken takes no further link


def test_a_rewritten_history_is_remembered_by_the_machine_that_saw_the_old_one(one: str, store: Path) -> None:
    name, version = one.split("/")
    evidence(one, store, by="ann")
    client = connect(store).client
    client.delete_registered_model(f"{name}.audits")
    client.delete_model_version_tag(name, version, chain.ANCHOR)
    found = evidence(one, store)
    assert found["verdict"]["name"] == BROKEN and "this machine remembers it" in found["verdict"]["said"]


def typo(store: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Params:
    return Params.model_validate({"signing": {"public_key": "keys/taem.pub", "private_key": "keys/team.pem"}})


def garbage_key(store: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Params:
    (tmp_path / "team.pub").write_text("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
    signing = {"public_key": str(tmp_path / "team.pub"), "private_key": "keys/team.pem"}
    return Params.model_validate({"signing": signing})


def no_room_for_scratch(store: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Params:
    monkeypatch.setattr("tempfile.tempdir", "/proc/none")
    return PARAMS


def failed_download(store: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Params:
    client = connect(store).client
    newest = max(
        client.search_model_versions("name LIKE 'audit-%-panda'"), key=lambda v: v.creation_timestamp
    )
    for weights in store.rglob("pytorch_lora_weights.safetensors"):
        if sha256_of(weights) == newest.tags["adapter_sha256"]:
            weights.rename(weights.with_suffix(".away"))
    return PARAMS


@pytest.mark.parametrize("trouble", [typo, garbage_key, no_room_for_scratch, failed_download])
def test_trouble_of_the_auditors_own_is_an_error_and_accuses_no_version(
    one: str, store: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, trouble: Any
) -> None:
    with monkeypatch.context() as patched:
        params = trouble(store, patched, tmp_path)
        with pytest.raises(FadeError) as caught:
            audit(one, params, store, evidence_only=True)
    assert not caught.value.tampered and caught.value.action
    name, version = one.split("/")
    assert history(name, store) == []
    assert "audit.verdict" not in connect(store).client.get_model_version(name, version).tags


def test_audits_at_once_are_all_kept(one: str, store: Path) -> None:
    name, _ = one.split("/")
    together = Barrier(3)

    def audited(by: str) -> int:
        together.wait(60)
        return int(evidence(one, store, by=by)["number"])

    with ThreadPoolExecutor(3) as pool:
        numbers = sorted(pool.map(audited, ("ann", "bob", "cid")))
    kept = history(name, store)
    assert [audit.number for audit in kept] == numbers and {audit.by for audit in kept} == {
        "ann",
        "bob",
        "cid",
    }


def test_all_and_the_champions(one: str, store: Path) -> None:
    tracking = connect(store)
    label = {f"{v.name}/{v.version}" for v in versions(tracking, "all")}
    assert one in label and not any(".audits" in name or ".decisions" in name for name in label)
    assert one not in {f"{v.name}/{v.version}" for v in versions(tracking, "champions")}
    decide("promote", one, store, PromotionPolicy(), by="ann", override="a test")
    assert one in {f"{v.name}/{v.version}" for v in versions(tracking, "champions")}


def test_a_clean_copy_of_a_commit_that_no_branch_holds(tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    repo.mkdir()

    def git(*arguments: str) -> str:
        line = ["git", "-C", str(repo), "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
        return subprocess.run(line, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    (repo / ".dvc").mkdir()
    (repo / ".dvc" / "config").write_text("[core]\n")
    (repo / ".dvc" / "config.local").write_text("secret\n")
    (repo / ".gitignore").write_text("config.local\n")
    (repo / "code").write_text("old")
    git("add", ".")
    git("commit", "-qm", "old")
    old = git("rev-parse", "HEAD")
    (repo / "code").write_text("new")
    git("commit", "-qam", "new", "--amend")
    (repo / "code").write_text("half done")
    before = git("status", "--porcelain")
    assert has_commit(old, repo) and file_at(old, "code", repo) == "old" and not has_commit("0" * 40, repo)
    with checkout(old, repo) as tree:
        assert (tree / "code").read_text() == "old" and (
            tree / ".dvc" / "config.local"
        ).read_text() == "secret\n"
        assert (
            subprocess.run(
                ["git", "-C", str(tree), "status", "--porcelain"], capture_output=True, text=True, check=True
            ).stdout
            == ""
        )
    assert (
        not tree.exists()
        and git("status", "--porcelain") == before
        and (repo / "code").read_text() == "half done"
    )
    with (
        pytest.raises(AuditError, match="commit 000000000000 cannot be checked out"),
        checkout("0" * 40, repo),
    ):
        pass
