"""`SiteData` from the evidence of a site, through the registry's own readers. One bad record hides no other:
it is shown as unreadable, with the sentence that names why."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.errors import RegistryError
from fade.evaluation.metrics import Metric, report_rows
from fade.governance.audit import Audit
from fade.governance.log_names import AUDITS, DECISIONS, LOGS, is_log, log_kind, subject
from fade.governance.promotion import Criterion, Decision, Standing
from fade.governance.release_plan import release_name
from fade.provenance.lineage import FILE as RECORD
from fade.reporting.site.data import (
    REVOKED,
    UNREADABLE,
    Entry,
    Number,
    Problem,
    SiteData,
    VersionRow,
    file_name,
)
from fade.reporting.site.render import generator
from fade.reporting.verdict import given
from fade.utils.hashing import sha256_of
from tasks.registry.lineage import read_record
from tasks.registry.log_store import AUDIT_LOG
from tasks.registry.trust import Trust
from tasks.registry.versions import parts_of, revoked_parts
from tasks.release import site_evidence as evidence
from tasks.release import site_requests
from tasks.release.site_requests import BAD_RECORD, read_requests, sentence, signed_entries
from tasks.requests.leases import RequestSnapshot
from tasks.requests.status import last_evaluation, stale_reason

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

BENCHMARK = "benchmark"


def made_by() -> str:
    """`generator`, with the code of this module."""
    return generator(Path(__file__), Path(site_requests.__file__))


def open_evidence(folder: Path, public_key: str = "") -> RequestSnapshot:
    """The registry as the evidence has it; signatures are verified by ``public_key``, else by the key that
    the evidence holds, if any. Raises RegistryError."""
    own = folder / evidence.PUBLIC_KEY
    key = public_key or (str(own) if own.is_file() else "")
    prefix = evidence.read_head(folder)["prefix"]
    trust = Trust(public_key=key, witness=str(folder / evidence.WITNESS))
    return RequestSnapshot.load(evidence.read_models(folder), prefix, trust)


def site_data(folder: Path) -> SiteData:
    """What the site below ``folder`` shows, from its evidence. Raises RegistryError when the evidence as a
    whole cannot be read."""
    try:
        return _site_data(folder)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        what = f"the evidence cannot be read: {type(error).__name__}: {error}."
        raise RegistryError(what, stage=evidence.STAGE, action="make the site again.") from error


def _site_data(folder: Path) -> SiteData:
    snapshot, head = open_evidence(folder), evidence.read_head(folder)
    problems: list[Problem] = []
    unreadable = evidence.read_json(folder, evidence.UNREADABLE)
    records: dict[str, Mapping[str, Any]] = {}
    versions: list[VersionRow] = []
    logs = {name: _logs(snapshot, name, problems) for name in sorted(_models(snapshot))}
    for version in snapshot.adapters():
        row = _version_row(snapshot, version, folder, unreadable, records, logs[str(version.name)])
        versions.append(row)
        problems += [Problem(row.label, row.problem)] if row.problem else []
    requests = read_requests(snapshot, folder, problems)
    own = folder / evidence.PUBLIC_KEY
    return SiteData(
        made_at=head["made_at"],
        generator=made_by(),
        prefix=snapshot.prefix,
        requests=tuple(requests),
        versions=tuple(versions),
        problems=tuple(problems),
        benchmark=tuple(_files(folder, BENCHMARK, first="benchmark.html")),
        evidence=tuple(_files(folder, evidence.FOLDER)),
        public_key_sha256=sha256_of(own) if own.is_file() else "",
        records=records,
    )


def _files(folder: Path, below: str, first: str = "") -> list[str]:
    files = [path.relative_to(folder).as_posix() for path in (folder / below).rglob("*") if path.is_file()]
    return sorted(files, key=lambda name: (not name.endswith(f"/{first}"), name))


def _models(snapshot: RequestSnapshot) -> set[str]:
    """The models that hold adapters or that a log is about."""
    names = {name for name in snapshot.versions if not is_log(name)}
    logs = {*snapshot.versions, *snapshot.witness.heads}
    return names | {subject(name) for name in logs if log_kind(name) in LOGS}


Logs = tuple[Standing | None, dict[str, list[Entry]], dict[str, list[Entry]]]
"""Of a model: what was decided (None: cannot be trusted), decisions and audits by version."""


def _logs(snapshot: RequestSnapshot, name: str, problems: list[Problem]) -> Logs:
    decisions: dict[str, list[Entry]] = {}
    audits: dict[str, list[Entry]] = {}
    standing: Standing | None = None
    try:
        standing = snapshot.standing(name)
        signed = signed_entries(snapshot, f"{name}{DECISIONS}")
        for one in sorted([*standing.decisions, *standing.void], key=lambda entry: entry.number):
            void = one in standing.void
            decisions.setdefault(one.version, []).append(_decision(one, void, one.number in signed))
    except BAD_RECORD as error:
        standing = None
        problems.append(Problem(f"{name}{DECISIONS}", sentence(error, snapshot)))
    try:
        counted, _ = snapshot.read_log(AUDIT_LOG, f"{name}{AUDITS}")
        signed = signed_entries(snapshot, f"{name}{AUDITS}")
        for audit in counted:
            audits.setdefault(audit.version, []).append(_audit(audit, audit.number in signed))
    except BAD_RECORD as error:
        problems.append(Problem(f"{name}{AUDITS}", sentence(error, snapshot)))
    if not snapshot.versions.get(name):
        why = "the registry has decisions or audits of this model, and no version of it."
        problems.append(Problem(name, why))
    return standing, decisions, audits


def _decision(one: Decision, void: bool, signed: bool) -> Entry:
    note = "void" if void else "overridden" if one.overridden else ""
    criteria = tuple((str(Criterion(**row)), bool(row["holds"])) for row in one.criteria)
    return Entry(one.number, str(one.by), str(one.at), one.action, str(one.reason), note, signed, criteria)


def _audit(one: Audit, signed: bool) -> Entry:
    control = f"control {one.control}" if one.control else "no control"
    return Entry(one.number, str(one.by), str(one.at), one.verdict, str(one.stage), control, signed)


def _version_row(
    snapshot: RequestSnapshot,
    version: ModelVersion,
    folder: Path,
    unreadable: Mapping[str, str],
    records: dict[str, Mapping[str, Any]],
    logs: Logs,
) -> VersionRow:
    """Every field that can be read; ``problem`` names the first that cannot."""
    name, number, tags = str(version.name), str(version.version), version.tags
    label, (standing, decisions, audits) = f"{name}/{number}", logs
    stem = file_name(label)
    made_at = datetime.fromtimestamp(int(version.creation_timestamp) / 1000, UTC)
    files = {"record": evidence.RECORDS, "signature": evidence.SIGNATURES, "registry": evidence.MODELS}
    paths = {what: f"{where}/{stem}.json" for what, where in files.items()}
    paths["registry"] = f"{evidence.MODELS}/{file_name(name)}.json"
    grids = folder / evidence.PICTURE_FOLDER / stem
    row = VersionRow(
        name,
        number,
        concept=tags.get("target", ""),
        method=tags.get("method", ""),
        seed=tags.get("seed", ""),
        state=UNREADABLE if standing is None else standing.states.get(number, ""),
        release=name == release_name(snapshot.prefix),
        made_at=made_at.isoformat(timespec="seconds"),
        run_id=str(version.run_id),
        adapter_sha256=tags.get("adapter_sha256", ""),
        lineage_sha256=tags.get("lineage_sha256", ""),
        data_md5=tags.get("data_md5", ""),
        base_sha256=tags.get("base_sha256", ""),
        commit=tags.get("commit", ""),
        decisions=tuple(decisions.get(number, ())),
        audits=tuple(audits.get(number, ())),
        pictures=tuple(path.relative_to(folder).as_posix() for path in sorted(grids.glob("*.png"))),
        evidence=tuple((what, path) for what, path in paths.items() if (folder / path).is_file()),
    )
    try:
        row = _with_tags(snapshot, version, row)
        if label in unreadable:
            return replace(row, problem=str(unreadable[label]))
        path = folder / paths["record"]
        if not path.is_file():
            raise RegistryError(f"{label} has no {RECORD} in the evidence.", stage=evidence.STAGE)
        content = read_record(snapshot, version, path).lineage.content
        records[label] = content
        return _with_record(row, content)
    except BAD_RECORD as error:
        records.pop(label, None)
        return replace(row, problem=sentence(error, snapshot))


def _with_tags(snapshot: RequestSnapshot, version: ModelVersion, row: VersionRow) -> VersionRow:
    """The row with what stands in tags as JSON, and with what was decided about its parts."""
    parts = tuple(parts_of(version))
    again_at = (last_evaluation(snapshot, version) or {}).get("at", "")
    row = replace(row, parts=parts, release=row.release or bool(parts), reevaluated_at=str(again_at))
    row = replace(row, stale=stale_reason(snapshot, version))
    row = replace(row, state=REVOKED) if snapshot.revoked_as(version) else row
    neighbours = tuple(map(str, json.loads(version.tags.get("neighbours", "[]"))))
    return replace(row, neighbours=neighbours, revoked_parts=tuple(revoked_parts(snapshot, version)))


def _with_record(row: VersionRow, content: Mapping[str, Any]) -> VersionRow:
    outputs, checks = content["outputs"], content.get("checks") or {}
    concepts = outputs.get("parts") or {}
    counts = (
        (str(stage), sum(bool(one["success"]) for one in some), len(some)) for stage, some in checks.items()
    )
    return replace(
        row,
        overrides=tuple(map(str, content["params"]["overrides"])),
        numbers=_numbers(outputs),
        concepts=tuple((str(concept), _numbers(numbers)) for concept, numbers in concepts.items()),
        checks=tuple(counts),
    )


def _numbers(outputs: Mapping[str, Any]) -> tuple[Number, ...]:
    erased, original = outputs.get("metrics") or {}, outputs.get("base_metrics") or {}
    rows = report_rows(first_table=True) if erased else []
    titles = [row.title or metric.title for metric, row in rows]
    after = [_finite(erased.get(metric.name)) for metric, _ in rows]
    before = [_original(metric, _finite(original.get(row.base_name))) for metric, row in rows]
    return tuple(map(Number, titles, after, before))


def _original(metric: Metric, value: float | None) -> float | None:
    """The original's number under the metric's title: of the target the record has the share recognised."""
    return 100 - value if metric.role == "erasure" and value is not None else value


def _finite(value: Any) -> float | None:
    return float(value) if given(value) else None
