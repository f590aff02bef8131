"""The chain of audits about a model's versions, and what is kept of an audit: an MLflow run, tags of the
version, marks on this machine."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.errors import AuditError, FadeError
from fade.governance.audit import STAGE, Audit
from fade.utils.files import make_folder, read_json, write_json
from tasks.registry.card import refresh
from tasks.registry.decision_log import AUDITS
from tasks.registry.log_store import Log
from tasks.registry.tracking import Run, Tracking, all_versions, connect, faults, open_run
from tasks.registry.versions import resolve

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

MARKS = "marks.json"
"""The last audit of each model that this machine has seen: whoever rewrites a whole chain cannot rewrite it
here."""
MARK = "audit.mark"
TRIES = 20


class _CameSecond(AuditError):
    """Another audit took the place in the chain; nothing speaks against the next one."""


_LOG = Log(AUDITS, Audit, "Audits, in order; written by `fade audit`.")


def audits(tracking: Tracking, name: str, runs: Path, version: ModelVersion | None = None) -> list[Audit]:
    """All audits of the model's versions, in order.

    Raises AuditError when the chain was edited or cut, or lacks an audit that ``version``'s tags or this
    machine's marks name."""
    found, _ = _LOG.read(tracking, name)
    _remembered(found, name, _marks(runs).get(f"{tracking.address} {name}"), "this machine")
    _remembered(found, name, version.tags.get(MARK) if version else None, "the version's tag")
    return found


def history(name: str, runs: Path, *, timeout: float = 60.0) -> list[Audit]:
    """As ``audits``, of a model that is called ``name`` and of all its versions' tags. Raises
    UnknownNameError."""
    tracking = connect(runs, timeout=timeout)
    name = str(resolve(tracking, name).name)
    found = audits(tracking, name, runs)
    for version in all_versions(tracking, name):
        _remembered(found, name, version.tags.get(MARK), "the version's tag")
    return found


def record(
    tracking: Tracking,
    version: ModelVersion,
    audit: Audit,
    report: Path,
    experiment: str,
    runs: Path,
    metrics: dict[str, float],
) -> Audit:
    """Keep an audit for ever: ``report`` (a folder) as the artifacts of an MLflow run, a link of the chain,
    tags of the version."""
    name = str(version.name)
    label = f"{name}/{version.version}"
    facts = {
        "verdict": audit.verdict,
        "stage": audit.stage,
        "version": label,
        "by": audit.by,
        "control": audit.control or "none",
    }
    with open_run(
        tracking, experiment, f"audit {label}", {f"audit.{key}": value for key, value in facts.items()}
    ) as run:
        _log(run, report, metrics)
    link = replace(audit, run_id=run.run_id)
    for _ in range(TRIES):
        before = audits(tracking, name, runs)
        try:
            link = _LOG.add(tracking, version, link, before[-1] if before else None, _lost)
            break
        except _CameSecond:
            continue
    else:
        raise AuditError(f"{TRIES} other audits of {name} came first.", stage=STAGE, action="audit again.")
    write_json(make(runs / "audit") / MARKS, {**_marks(runs), f"{tracking.address} {name}": link.anchor})
    tags = {"audit.verdict": link.verdict, "audit.at": link.at, "audit.by": link.by, MARK: link.anchor}
    with faults(tracking.address):
        for key, value in tags.items():
            tracking.client.set_model_version_tag(name, str(version.version), key, value)
    with contextlib.suppress(FadeError, OSError, ValueError):  # a card that is behind undoes no audit
        refresh(tracking, version, audit={"verdict": link.verdict, "at": link.at, "by": link.by})
    return link


def _remembered(found: Sequence[Audit], name: str, mark: str | None, where: str) -> None:
    if mark and not any(one.anchor == mark for one in found):
        what = f"{name}: audit {mark.split(':')[0]} is gone or was edited; {where} remembers it."
        raise AuditError(
            what, stage=STAGE, action="trust none of the audits; find out who changed the registry."
        )


def make(folder: Path) -> Path:
    """The folder, made when it is not there. Raises StorageError."""
    make_folder(folder)
    return folder


def _log(run: Run, report: Path, metrics: dict[str, float]) -> None:
    if metrics:
        run.log_metrics(0, metrics)
    run.log_file(report)


def _lost(_first: Audit, _ours: Audit) -> AuditError:
    return _CameSecond("another audit came first.", stage=STAGE)


def _marks(runs: Path) -> dict[str, Any]:
    kept = read_json(runs / "audit" / MARKS)
    return kept if isinstance(kept, dict) else {}
