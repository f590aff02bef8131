"""The report of an audit: ``audit.json``, ``audit.html``, pictures, and its entry in the log of audits."""

from __future__ import annotations

import shutil
import tempfile
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.errors import AuditError
from fade.governance.audit import STAGE, Audit, stages
from fade.utils.files import write_json, write_whole
from fade.utils.hashing import sha256_of
from tasks.registry import audit_log
from tasks.registry.connection import Tracking
from tasks.registry.lineage import Traced
from tasks.registry.runs import download_artifact
from tasks.release.audit_replay import AuditOptions, AuditOutcome
from tasks.release.replay import Replay
from tasks.release.verification_evidence import VerificationEvidence

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


def audit_content(
    version: ModelVersion,
    evidence: VerificationEvidence,
    outcome: AuditOutcome,
    options: AuditOptions,
    began: datetime,
) -> dict[str, Any]:
    """The content of ``audit.json``, both records included. began: UTC."""
    traced, replay = evidence.traced, outcome.replay
    label = f"{version.name}/{version.version}"
    return {
        "schema": 1,
        "model": str(version.name),
        "version": str(version.version),
        "verdict": outcome.verdict.to_json(),
        "control": outcome.control,
        "by": options.by,
        "at": began.isoformat(timespec="seconds"),
        "seconds": round((datetime.now(began.tzinfo) - began).total_seconds(), 1),
        "evidence": evidence.rows,
        "stages": stages(traced.lineage, replay.lineage if replay else None) if traced else [],
        "recorded": traced.to_json() if traced else None,
        "again": dict(replay.lineage.content) if replay else None,
        "command": f"fade audit {label}{' --evidence-only' if options.evidence_only else ''}",
    }


def write_audit_report(
    tracking: Tracking, content: dict[str, Any], traced: Traced | None, replay: Replay | None, report: Path
) -> Path:
    """Write the report into the folder ``report``; returns the page. Raises StorageError."""
    from fade.reporting.page import render_audit

    write_json(report / "audit.json", content)
    if traced is not None and replay is not None:
        _copy_pictures(tracking, traced, replay, report)
    return write_whole(report / "audit.html", render_audit(content, report), stage=STAGE)


def _copy_pictures(tracking: Tracking, traced: Traced, replay: Replay, report: Path) -> None:
    """Before and after erasure, of the registered run and of its replay."""
    replayed = replay.folder / "pictures" / "before-after.png"
    if replayed.is_file():
        shutil.copyfile(replayed, report / "again.png")
    with tempfile.TemporaryDirectory(prefix="fade-audit-") as scratch:
        recorded = download_artifact(tracking, traced.run_id, "pictures", Path(scratch))
        if recorded is not None and (recorded / "before-after.png").is_file():
            shutil.copyfile(recorded / "before-after.png", report / "recorded.png")


def record_audit(
    tracking: Tracking,
    version: ModelVersion,
    content: dict[str, Any],
    traced: Traced | None,
    outcome: AuditOutcome,
    report: Path,
    options: AuditOptions,
) -> dict[str, Any]:
    """Record the audit in the registry. Returns ``number``, ``sha256`` and ``run_id`` of its entry.

    An untrustworthy log takes no entry: then ``number`` is None, ``good`` False, and ``unrecorded`` says why.
    """
    entry = Audit(
        number=0,
        by=content["by"],
        at=content["at"],
        version=content["version"],
        verdict=outcome.verdict.name,
        stage=outcome.verdict.stage,
        control=outcome.control,
        adapter_sha256=str(traced.lineage.content["outputs"]["adapter_sha256"]) if traced else "",
        lineage_sha256=traced.lineage.sha256() if traced else "",
        report_sha256=sha256_of(report / "audit.json"),
    )
    replayed = outcome.replay.lineage.content["outputs"].get("metrics") or {} if outcome.replay else {}
    metrics = {name: float(value) for name, value in replayed.items() if value is not None}
    experiment, key = options.params.audit.experiment, options.params.signing.private_key
    try:
        entry = audit_log.record(tracking, version, entry, report, experiment, options.runs, metrics, key)
    except AuditError as error:
        return {"number": None, "good": False, "unrecorded": str(error)}
    return {"number": entry.number, "sha256": entry.sha256(), "run_id": entry.run_id}
