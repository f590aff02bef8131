"""The report of an audit (``audit.json``, ``audit.html``, pictures, an entry in the log of audits), and the
evidence in it that needs no replay: hashes, signature, record, logs, code, data, environment."""

from __future__ import annotations

import getpass
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.errors import AuditError, FadeError, SignatureError
from fade.governance.audit import STAGE, Audit, stages
from fade.provenance.lineage import environment
from fade.utils.files import write_json, write_whole
from fade.utils.hashing import sha256_of
from tasks.launch.git_worktree import file_at, has_commit
from tasks.registry import audit_log
from tasks.registry.connection import Tracking
from tasks.registry.lineage import Traced
from tasks.registry.runs import download_artifact
from tasks.registry.snapshot import RegistrySnapshot
from tasks.registry.verify import verify_version
from tasks.release.replay import AuditOptions, AuditOutcome

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

PAGE = "audit.html"
SHOWN = 6
"""Packages that a sentence names."""


@dataclass
class Evidence:
    """Rows of ``what``, ``found``, and ``holds`` (None: informational only)."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    traced: Traced | None = None
    """None when the record does not hold."""
    adapter: Path | None = None

    @property
    def broken(self) -> str:
        """The sentences of the rows that do not hold; empty when all do."""
        return "; ".join(str(row["found"]) for row in self.rows if row["holds"] is False)

    def add(self, what: str, holds: bool | None, text: str) -> None:
        self.rows.append({"what": what, "holds": holds, "found": text})


def collect_evidence(tracking: Tracking, version: ModelVersion, options: AuditOptions) -> Evidence:
    """All rows. What differs, or is gone, is a row and no exception (`FadeError.tampered`); raises every
    error of a comparison that could not be made, such as RegistryUnreachableError, StorageError and
    SignatureError for a key that is not there: it is no finding about the version."""
    evidence, runs, repository = Evidence(), options.runs, options.repository
    snapshot = RegistrySnapshot.load_model(tracking, str(version.name), options.trust)
    _registry(evidence, snapshot, version, runs)
    try:
        earlier = audit_log.audits(snapshot, str(version.name), [version])
        evidence.add("audits", True, f"{len(earlier)} before this one, unbroken")
    except (AuditError, SignatureError) as error:
        if not error.tampered:
            raise
        evidence.add("audits", False, str(error))
    if evidence.traced is not None:
        record = evidence.traced.lineage.content
        evidence.add("code", *_code(record["code"], repository))
        evidence.add("data", *_data(record, repository))
        evidence.add("environment", *_environment(record["environment"]))
    return evidence


def _registry(evidence: Evidence, snapshot: RegistrySnapshot, version: ModelVersion, runs: Path) -> None:
    """The rows of `tasks.registry.verify`, up to the first check that fails."""
    rows: list[dict[str, str]] = []
    failure = ""
    try:
        evidence.traced, evidence.adapter = verify_version(snapshot, version, runs, rows, revoked=True)
    except FadeError as error:
        if not error.tampered:
            raise
        failure = str(error)
    for row in rows:
        unsigned = row["what"] == "signature" and not snapshot.trust.public_key
        evidence.add(row["what"], None if unsigned else True, row["found"])
    if failure:
        evidence.add("registry, record, adapter", False, failure)


def _code(code: Mapping[str, Any], repository: Path) -> tuple[bool | None, str]:
    commit = code["commit"]
    if not commit:
        return None, "the run recorded no commit: it was not made from a checkout"
    if not has_commit(commit, repository):
        return None, f"commit {commit[:12]} is not in this repository"
    states = {True: "the tree had uncommitted changes", False: "the tree was clean"}
    return True, f"commit {commit[:12]} is here; {states.get(code['dirty'], 'its state is not known')}"


def _data(record: Mapping[str, Any], repository: Path) -> tuple[bool | None, str]:
    commit, name = record["code"]["commit"], (record["params"]["values"].get("data") or {}).get("dvc_file")
    recorded = record["data"].get("dvc_files") or {str(name or "data.dvc"): str(record["data"]["md5"])}
    for file, md5 in recorded.items():
        text = file_at(commit, file, repository) if commit else None
        if text is None:
            return None, f"{file} at that commit is not here"
        if not re.search(rf"\bmd5:\s*{re.escape(md5)}\b", text):
            return None, f"{file} at that commit names other data than the recorded {md5[:12]}"
    named = " and ".join(f"the recorded {md5[:12]}" for md5 in recorded.values())
    return True, f"{' and '.join(recorded)} at that commit names {named}"


def _environment(recorded: Mapping[str, Any]) -> tuple[bool | None, str]:
    device, precision = str(recorded["device"]), str(recorded["precision"])
    current = environment(device=device, precision=precision, world_size=int(recorded["world_size"]))
    keys = ("python", "platform", "machine", "torch_threads")
    pairs = {key: (recorded.get(key), current[key]) for key in keys}
    changes = [f"{key} {before} -> {now}" for key, (before, now) in pairs.items() if before != now]
    old, new = recorded.get("packages") or recorded["libraries"], current["packages"]
    moved = sorted(name for name, version in old.items() if version and new.get(name) != version)
    if moved:
        named = ", ".join(f"{name} {old[name]} -> {new.get(name, 'not here')}" for name in moved[:SHOWN])
        rest = ", …" if len(moved) > SHOWN else ""
        changes.append(f"{len(moved)} of {len(old)} packages: {named}{rest}")
    if changes:
        return None, "; ".join(changes)
    return True, f"the same: {len(old)} packages, Python {current['python']}"


def write_audit_report(
    tracking: Tracking,
    version: ModelVersion,
    evidence: Evidence,
    outcome: AuditOutcome,
    options: AuditOptions,
    began: datetime,
    report: Path,
) -> dict[str, Any]:
    """Write the report into the folder ``report``; returns the content of its ``audit.json``, both records
    included. began: UTC. Raises StorageError."""
    from fade.reporting.page import render_audit

    traced, replay = evidence.traced, outcome.replay
    only = " --evidence-only" if options.evidence_only else ""
    content = {
        "schema": 1,
        "model": str(version.name),
        "version": str(version.version),
        "verdict": outcome.verdict.to_json(),
        "control": outcome.control,
        "by": options.by or getpass.getuser(),
        "at": began.isoformat(timespec="seconds"),
        "seconds": round((datetime.now(began.tzinfo) - began).total_seconds(), 1),
        "evidence": evidence.rows,
        "stages": stages(traced.lineage, replay.lineage if replay else None) if traced else [],
        "recorded": traced.to_json() if traced else None,
        "again": dict(replay.lineage.content) if replay else None,
        "command": f"fade audit {version.name}/{version.version}{only}",
    }
    write_json(report / "audit.json", content)
    if traced is not None and replay is not None:
        with tempfile.TemporaryDirectory(prefix="fade-audit-") as scratch:
            recorded = download_artifact(tracking, traced.run_id, "pictures", Path(scratch))
            for folder, name in ((replay.folder / "pictures", "again.png"), (recorded, "recorded.png")):
                if folder is not None and (folder / "before-after.png").is_file():
                    shutil.copyfile(folder / "before-after.png", report / name)
    write_whole(report / PAGE, render_audit(content, report), stage=STAGE)
    return content


def record_audit(
    tracking: Tracking, version: ModelVersion, content: dict[str, Any], report: Path, options: AuditOptions
) -> dict[str, Any]:
    """Record the audit in the registry. Returns ``number``, ``sha256`` and ``run_id`` of its entry.

    An untrustworthy log takes no entry: then ``number`` is None, ``good`` False, and ``unrecorded`` says why.
    """
    recorded, repeated = content["recorded"], content["again"]
    entry = Audit(
        number=0,
        by=content["by"],
        at=content["at"],
        version=content["version"],
        verdict=content["verdict"]["name"],
        stage=content["verdict"]["stage"],
        control=content["control"],
        adapter_sha256=str(recorded["lineage"]["outputs"]["adapter_sha256"]) if recorded else "",
        lineage_sha256=recorded["lineage_sha256"] if recorded else "",
        report_sha256=sha256_of(report / "audit.json"),
    )
    replayed = (repeated["outputs"].get("metrics") or {}) if repeated else {}
    metrics = {name: float(value) for name, value in replayed.items() if value is not None}
    experiment = options.params.audit.experiment
    try:
        entry = audit_log.record(tracking, version, entry, report, experiment, metrics, options.trust)
    except (AuditError, SignatureError) as error:
        if not error.tampered:
            raise
        return {"number": None, "good": False, "unrecorded": str(error)}
    return {"number": entry.number, "sha256": entry.sha256(), "run_id": entry.run_id}
