"""What is kept of an audit: an entry of its model's log, an MLflow run, tags, an anchor on this machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.errors import AuditError, FadeError
from fade.governance.audit import STAGE, Audit
from fade.utils.files import make_folder, read_json, write_json
from tasks.registry.card import AUDIT, refresh
from tasks.registry.connection import Tracking
from tasks.registry.log_store import AUDIT_LOG
from tasks.registry.models import AUDITS, set_tags
from tasks.registry.runs import open_run
from tasks.registry.snapshot import RegistrySnapshot
from tasks.registry.versions import open_version

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

ANCHORS = Path("audit", "marks.json")
"""Under the runs folder: the last audit of each model that this machine has recorded. Whoever rewrites a
whole log cannot rewrite this file."""
ANCHOR = "audit.mark"
"""Tag of a version: the anchor of its last audit."""
TRIES = 20


def audits(
    snapshot: RegistrySnapshot, name: str, runs: Path, versions: Iterable[ModelVersion] = ()
) -> list[Audit]:
    """All audits of the model's versions, in order.

    Raises AuditError when the log was edited or cut, or lacks an audit of an anchor: of this machine's and of
    the tags of ``versions``; SignatureError."""
    counted, _ = snapshot.read_log(AUDIT_LOG, f"{name}{AUDITS}")
    anchors = [("this machine", _anchors(runs).get(_key(snapshot.tracking, name)))]
    anchors += [("the version's tag", version.tags.get(ANCHOR)) for version in versions]
    for where, anchor in anchors:
        if anchor and not any(audit.anchor == anchor for audit in counted):
            what = f"{name}: audit {anchor.split(':')[0]} is gone or was edited; {where} remembers it."
            action = "trust none of the audits; find out who changed the registry."
            raise AuditError(what, stage=STAGE, action=action)
    return counted


def history(name: str, runs: Path) -> list[Audit]:
    """As ``audits``, of a model that is called ``name`` and with the anchors of all its versions. Raises
    UnknownNameError."""
    snapshot, version = open_version(name, runs)
    return audits(snapshot, str(version.name), runs, snapshot.versions_of(str(version.name)))


def record(
    tracking: Tracking,
    version: ModelVersion,
    audit: Audit,
    report: Path,
    experiment: str,
    runs: Path,
    metrics: Mapping[str, float],
    private_key: str = "",
) -> Audit:
    """Keep an audit: ``report`` (a folder) as the artifacts of an MLflow run, an entry of the log, signed
    when there is a key, tags. Raises AuditError, RegistryError, SignatureError, StorageError."""
    name, label = str(version.name), f"{version.name}/{version.version}"
    facts = {key: getattr(audit, key) for key in ("verdict", "stage", "by")}
    facts |= {"version": label, "control": audit.control or "none"}
    tags = {f"audit.{key}": value for key, value in facts.items()}
    with open_run(tracking, experiment, f"audit {label}", tags) as run:
        run.log_metrics(0, metrics)
        run.log_file(report)
    audit = _append(tracking, version, replace(audit, run_id=run.run_id), runs, private_key)
    make_folder((runs / ANCHORS).parent)
    write_json(runs / ANCHORS, {**_anchors(runs), _key(tracking, name): audit.anchor}, sync=True)
    summary = {key: str(getattr(audit, key)) for key in AUDIT}
    set_tags(tracking, version, {ANCHOR: audit.anchor, **{AUDIT[key]: summary[key] for key in AUDIT}})
    with contextlib.suppress(FadeError, OSError, ValueError):  # an outdated card undoes no audit
        refresh(tracking, version, audit=summary)
    return audit


def _append(tracking: Tracking, version: ModelVersion, audit: Audit, runs: Path, private_key: str) -> Audit:
    """Append behind whatever other audits were faster: none of them contradicts this one."""
    name = str(version.name)
    for _ in range(TRIES):
        earlier = audits(RegistrySnapshot.load(tracking, name), name, runs)
        last = earlier[-1] if earlier else None
        audit, counted = AUDIT_LOG.append(
            tracking, f"{name}{AUDITS}", audit, last, about=version, private_key=private_key
        )
        if audit in counted:
            return audit
    raise AuditError(f"{TRIES} other audits of {name} came first.", stage=STAGE, action="audit again.")


def _key(tracking: Tracking, name: str) -> str:
    return f"{tracking.address} {name}"


def _anchors(runs: Path) -> dict[str, Any]:
    content = read_json(runs / ANCHORS)
    return content if isinstance(content, dict) else {}
