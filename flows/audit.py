"""The audit: evidence -> the run, or the sum, made again with a control -> verdict -> report -> the log of
audits.

Plain functions and no flow of Prefect's: an audit must be possible where no server runs, and its record is
not Prefect's database."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.config import Params
from fade.errors import FadeError, RegistryUnreachableError, StorageError
from fade.governance.audit import BROKEN, HOLDS, Verdict
from fade.utils import progress
from fade.utils.files import make_folder
from tasks.registry.connection import Tracking, connect
from tasks.registry.log_store import TRUST
from tasks.registry.snapshot import RegistrySnapshot
from tasks.registry.trust import Trust
from tasks.registry.versions import load_snapshot, resolve
from tasks.release.audit_release import audit_release
from tasks.release.audit_report import PAGE, Evidence, collect_evidence, record_audit, write_audit_report
from tasks.release.replay import AuditOptions, AuditOutcome, audit_run

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

ALL, CHAMPIONS = "all", "champions"
UNDONE = "not audited"
"""Stands for the verdict of a version that could not be audited; not recorded."""


def audit(selection: str, params: Params, runs: Path, **options: Any) -> list[dict[str, Any]]:
    """Audit a version (NAME/VERSION, NAME@ALIAS, NAME), every version (``all``) or every champion
    (``champions``). options: the other fields of `AuditOptions`.

    Returns one object a version: verdict, evidence, stages, control, report. What differs in a version is its
    verdict, not an exception; whatever prevents a comparison is an error, of several versions a row with
    ``unrecorded``, and nothing is recorded of that version: RegistryError (the store), SignatureError (a
    key), UsageError and UnknownNameError (``selection``), StorageError (no room for the report)."""
    tracking = connect(runs, timeout=params.register_.timeout_seconds)
    settings = AuditOptions(params, runs, **options)
    settings.trust.require_signer("the audit")
    selected = versions(tracking, selection, settings.trust)
    if len(selected) == 1:
        return [audit_version(tracking, selected[0], settings)]
    return [_audit_of_many(tracking, version, settings) for version in selected]


def _audit_of_many(tracking: Tracking, version: ModelVersion, options: AuditOptions) -> dict[str, Any]:
    """As `audit_version`; a version that could not be audited does not stop the others, and is no verdict."""
    try:
        return audit_version(tracking, version, options)
    except (RegistryUnreachableError, StorageError):
        raise
    except FadeError as error:
        verdict = Verdict(UNDONE, error.what)
        row = {"model": str(version.name), "version": str(version.version), "verdict": verdict.to_json()}
        nothing: dict[str, Any] = {"control": "", "evidence": [], "stages": [], "again": None, "report": ""}
        return {**row, **nothing, "number": None, "good": False, "unrecorded": str(error)}


def versions(tracking: Tracking, selection: str, trust: Trust = TRUST) -> list[ModelVersion]:
    """The versions that are audited; models that hold a log have none. A model whose decisions cannot be
    trusted has no champion: its newest version is audited, and the verdict says why. Raises as `audit`."""
    if selection not in (ALL, CHAMPIONS):
        return [resolve(load_snapshot(tracking, selection, trust), selection)]
    snapshot = RegistrySnapshot.load(tracking, "", trust)
    return snapshot.adapters() if selection == ALL else _champions(snapshot)


def _champions(snapshot: RegistrySnapshot) -> list[ModelVersion]:
    versions = []
    for name in snapshot.decided():
        try:
            versions += [one for one in [snapshot.champion(name)] if one]
        except FadeError as error:
            if not error.tampered:
                raise
            versions += snapshot.versions_of(name)[:1]
    return versions


def audit_version(tracking: Tracking, version: ModelVersion, options: AuditOptions) -> dict[str, Any]:
    """Audit one version; returns the object of `audit`."""
    label, began = f"{version.name}/{version.version}", datetime.now(UTC)
    progress.report(f"audit {label}", 0, 0, "evidence")
    folder = options.runs / "audit" / str(version.name) / f"{version.version}-{began:%Y%m%dT%H%M%S%f}"
    report = folder / "report"
    evidence = collect_evidence(tracking, version, options)
    make_folder(report)
    outcome = _outcome(tracking, evidence, folder, options)
    content = write_audit_report(tracking, version, evidence, outcome, options, began, report)
    entry = record_audit(tracking, version, content, report, options)
    progress.report(f"audit {label}", 1, 1, outcome.verdict.name)
    return {**content, "good": outcome.verdict.good, "report": str(report / PAGE), **entry}


def _outcome(tracking: Tracking, evidence: Evidence, folder: Path, options: AuditOptions) -> AuditOutcome:
    """The verdict: on the evidence alone, on a release built again, or on a run replayed."""
    traced, adapter = evidence.traced, evidence.adapter
    if evidence.broken or traced is None or adapter is None:
        return AuditOutcome(Verdict(BROKEN, evidence.broken))
    if options.evidence_only:
        return AuditOutcome(Verdict(HOLDS))
    if "parts" in traced.lineage.content:
        return audit_release(tracking, traced.lineage, folder, options)
    return audit_run(traced.lineage, adapter, folder, options)
