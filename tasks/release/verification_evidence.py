"""Verification evidence of a version, collected in seconds and without a replay: hashes, signature, record,
logs, code, data, environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.errors import AuditError, FadeError, SignatureError
from fade.provenance.lineage import REPOSITORY, environment
from tasks.launch.git_worktree import file_at, has_commit
from tasks.registry.audit_log import audits
from tasks.registry.connection import Tracking
from tasks.registry.lineage import Traced
from tasks.registry.snapshot import RegistrySnapshot
from tasks.registry.verify import verify_version

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

SHOWN = 6
"""Packages that a sentence names."""


@dataclass
class VerificationEvidence:
    """Rows of ``what``, ``found``, and ``holds`` (None: informational only)."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    traced: Traced | None = None
    """None when the record does not hold."""
    adapter: Path | None = None

    @property
    def holds(self) -> bool:
        return all(row["holds"] is not False for row in self.rows)

    @property
    def broken(self) -> str:
        """The sentences of the rows that do not hold; empty when all do."""
        return "; ".join(str(row["found"]) for row in self.rows if row["holds"] is False)

    def add(self, what: str, holds: bool | None, found: str) -> None:
        self.rows.append({"what": what, "holds": holds, "found": found})


def collect_evidence(
    tracking: Tracking, version: ModelVersion, runs: Path, public_key: str, repository: Path = REPOSITORY
) -> VerificationEvidence:
    """All rows. A check that fails is a row and no exception; raises RegistryUnreachableError."""
    evidence = VerificationEvidence()
    snapshot = RegistrySnapshot.load_model(tracking, str(version.name), public_key)
    _registry(evidence, snapshot, version, runs)
    try:
        earlier = audits(snapshot, str(version.name), runs, [version])
        evidence.add("audits", True, f"{len(earlier)} before this one, unbroken")
    except (AuditError, SignatureError) as error:
        evidence.add("audits", False, str(error))
    if evidence.traced is not None:
        record = evidence.traced.lineage.content
        _code(evidence, record["code"], repository)
        _data(evidence, record, repository)
        _environment(evidence, record["environment"])
    return evidence


def _registry(
    evidence: VerificationEvidence, snapshot: RegistrySnapshot, version: ModelVersion, runs: Path
) -> None:
    """The rows of `tasks.registry.verify`, up to the first check that fails."""
    rows: list[dict[str, str]] = []
    failure = ""
    try:
        evidence.traced, evidence.adapter = verify_version(snapshot, version, runs, rows, revoked=True)
    except FadeError as error:
        failure = str(error)
    for row in rows:
        unsigned = row["what"] == "signature" and not snapshot.public_key
        evidence.add(row["what"], None if unsigned else True, row["found"])
    if failure:
        evidence.add("registry, record, adapter", False, failure)


def _code(evidence: VerificationEvidence, code: Mapping[str, Any], repository: Path) -> None:
    commit = code["commit"]
    if not commit:
        evidence.add("code", None, "the run recorded no commit: it was not made from a checkout")
    elif not has_commit(commit, repository):
        evidence.add("code", None, f"commit {commit[:12]} is not in this repository")
    else:
        states = {True: "the tree had uncommitted changes", False: "the tree was clean"}
        state = states.get(code["dirty"], "its state is not known")
        evidence.add("code", True, f"commit {commit[:12]} is here; {state}")


def _data(evidence: VerificationEvidence, record: Mapping[str, Any], repository: Path) -> None:
    md5, commit = str(record["data"]["md5"]), record["code"]["commit"]
    name = str((record["params"]["values"].get("data") or {}).get("dvc_file", "data.dvc"))
    text = file_at(commit, name, repository) if commit else None
    if text is None:
        evidence.add("data", None, f"{name} at that commit is not here")
    elif re.search(rf"\bmd5:\s*{re.escape(md5)}\b", text):
        evidence.add("data", True, f"{name} at that commit names the recorded {md5[:12]}")
    else:
        evidence.add("data", None, f"{name} at that commit names other data than the recorded {md5[:12]}")


def _environment(evidence: VerificationEvidence, recorded: Mapping[str, Any]) -> None:
    device, precision = str(recorded["device"]), str(recorded["precision"])
    current = environment(device=device, precision=precision, world_size=int(recorded["world_size"]))
    keys = ("python", "platform", "machine", "torch_threads")
    changes = [
        f"{key} {recorded.get(key)} -> {current[key]}" for key in keys if recorded.get(key) != current[key]
    ]
    old, new = recorded.get("packages") or recorded["libraries"], current["packages"]
    moved = sorted(name for name, version in old.items() if version and new.get(name) != version)
    if moved:
        named = ", ".join(f"{name} {old[name]} -> {new.get(name, 'not here')}" for name in moved[:SHOWN])
        rest = ", …" if len(moved) > SHOWN else ""
        changes.append(f"{len(moved)} of {len(old)} packages: {named}{rest}")
    same = f"the same: {len(old)} packages, Python {current['python']}"
    evidence.add("environment", None if changes else True, "; ".join(changes) or same)
