"""What is recorded of an audit: an entry of its model's log, an MLflow run, tags."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fade.errors import FadeError
from fade.governance.append_log import verify_anchor
from fade.governance.audit import Audit
from fade.governance.log_names import AUDITS
from tasks.registry.card import AUDIT, refresh
from tasks.registry.connection import Tracking
from tasks.registry.log_store import AUDIT_LOG, TRUST
from tasks.registry.models import set_tags
from tasks.registry.runs import open_run
from tasks.registry.snapshot import RegistrySnapshot
from tasks.registry.trust import Trust
from tasks.registry.versions import open_version

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

ANCHOR = "audit.mark"
"""Tag of a version: the anchor of its last audit."""


def audits(snapshot: RegistrySnapshot, name: str, versions: Iterable[ModelVersion] = ()) -> list[Audit]:
    """All audits of the model's versions, in order.

    Raises AuditError when the log was edited or cut, or lacks an audit that the witness or a tag of
    ``versions`` remembers; SignatureError."""
    counted, _ = snapshot.read_log(AUDIT_LOG, f"{name}{AUDITS}")
    for version in versions:
        if anchor := version.tags.get(ANCHOR):
            verify_anchor(Audit, counted, anchor, f"{name}{AUDITS}", "the version's tag")
    return counted


def history(name: str, runs: Path, trust: Trust = TRUST) -> list[Audit]:
    """As ``audits``, of a model that is called ``name`` and with the anchors of all its versions. Raises
    UnknownNameError."""
    snapshot, version = open_version(name, runs, trust)
    return audits(snapshot, str(version.name), snapshot.versions_of(str(version.name)))


def record(
    tracking: Tracking,
    version: ModelVersion,
    audit: Audit,
    report: Path,
    experiment: str,
    metrics: Mapping[str, float],
    trust: Trust = TRUST,
) -> Audit:
    """Record an audit: ``report`` (a folder) as the artifacts of an MLflow run, an entry of the log, tags.
    Raises AuditError, RegistryError, SignatureError, StorageError."""
    name, label = str(version.name), f"{version.name}/{version.version}"
    facts = {key: getattr(audit, key) for key in ("verdict", "stage", "by")}
    facts |= {"version": label, "control": audit.control or "none"}
    tags = {f"audit.{key}": value for key, value in facts.items()}
    with open_run(tracking, experiment, f"audit {label}", tags) as run:
        run.log_metrics(0, metrics)
        run.log_file(report)
    audit = AUDIT_LOG.append_behind_all(
        tracking, f"{name}{AUDITS}", replace(audit, run_id=run.run_id), about=version, trust=trust
    )
    summary = {key: str(getattr(audit, key)) for key in AUDIT}
    set_tags(tracking, version, {ANCHOR: audit.anchor, **{AUDIT[key]: summary[key] for key in AUDIT}})
    with contextlib.suppress(FadeError, OSError, ValueError):  # an outdated card undoes no audit
        refresh(tracking, version, audit=summary, trust=trust)
    return audit
