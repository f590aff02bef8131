"""The status of every request, derived from the registry: its lease log, the version that it was done by, the
decisions about that version."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from fade.config import Params
from fade.governance.leases import FAILED, LeaseEvent, LeaseLog
from fade.governance.promotion import REVOKED, criteria
from fade.governance.requests import ErasureRequests, Request, Resolve
from tasks.requests.leases import has_exited
from tasks.requests.snapshot import RequestSnapshot

OPEN, RUNNING, SUCCEEDED, FELL_SHORT = "open", "running", "done", "failed"
WITHDRAWN, MISSING, FAULTY = "withdrawn", "missing", "faulty"
STALE, REEVALUATED = "stale", "reevaluated"
"""Tags of a version that re-evaluation writes."""


@dataclass(frozen=True)
class RequestStatus:
    """The status of one request."""

    id: str
    state: str
    detail: str = ""
    """The reason, as a sentence."""
    concept: str = ""
    requested_by: str = ""
    reason: str = ""
    due: str = ""
    overdue: bool = False
    version: str = ""
    """``fade-panda/1``, the last version that the request was done by."""
    worker: str = ""
    """Of a running request."""
    since: str = ""
    failures: int = 0
    """Consecutive, under these terms and parameters."""
    eligible: bool = False
    """Whether the scheduler takes it up."""
    request: Request | None = field(default=None, repr=False, compare=False)
    log: LeaseLog = field(default=LeaseLog(), repr=False, compare=False)

    @property
    def key(self) -> tuple[str, str]:
        """The request under its terms: an edited request has another key."""
        return self.id, self.request.fingerprint() if self.request else ""

    @property
    def lease(self) -> LeaseEvent:
        """Of a running request."""
        assert self.log.lease is not None
        return self.log.lease

    def to_json(self) -> dict[str, Any]:
        """As ``fade requests --json`` prints it."""
        return {key: value for key, value in asdict(self).items() if key not in ("request", "log")}


@dataclass(frozen=True)
class _Derived:
    state: str
    detail: str = ""
    eligible: bool = False
    since: str = ""
    worker: str = ""


def request_statuses(
    snapshot: RequestSnapshot, requests: ErasureRequests, params: Params, resolve: Resolve
) -> list[RequestStatus]:
    """Every request of the file, in order, then those that only the registry has. Raises RegistryError,
    PromotionError."""
    today = today_in(params.schedule.timezone)
    statuses = [_status(snapshot, request, params, resolve, today) for request in requests.requests]
    statuses += [RequestStatus(fault.id, FAULTY, fault.detail) for fault in requests.faults]
    listed = {status.id for status in statuses}
    missing = [request for request in snapshot.recorded_requests() if request not in listed]
    return statuses + [_missing(snapshot.lease_log(request), requests, request) for request in missing]


def today_in(zone: str) -> date:
    """Today's date in a time zone of the IANA list."""
    return datetime.now(ZoneInfo(zone)).date()


def unmet_criteria(record: Mapping[str, Any], request: Request, params: Params) -> list[str]:
    """The criteria of the request's own gate that a record does not meet."""
    return [str(one) for one in criteria(record, request.gate(params.gate)) if not one.holds]


def critical_checks(record: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Stage -> the record's data checks that the gate asks about."""
    checks = record.get("checks") or {}
    return {stage: [one for one in some if one["severity"] == "critical"] for stage, some in checks.items()}


def _status(
    snapshot: RequestSnapshot, request: Request, params: Params, resolve: Resolve, today: date
) -> RequestStatus:
    log, params_sha256 = snapshot.lease_log(request.id), resolve(request.overrides()).sha256()
    derived = _derive(snapshot, request, log, params, params_sha256)
    late = request.due is not None and request.due < today and derived.state not in (SUCCEEDED, WITHDRAWN)
    return RequestStatus(
        request.id,
        **asdict(derived),
        concept=request.concept,
        requested_by=request.requested_by,
        reason=request.reason,
        due=request.due.isoformat() if request.due else "",
        overdue=late,
        version=log.version,
        failures=log.failures(request.fingerprint(), params_sha256),
        request=request,
        log=log,
    )


def _derive(
    snapshot: RequestSnapshot, request: Request, log: LeaseLog, params: Params, params_sha256: str
) -> _Derived:
    if request.withdrawn:
        done = f" (done by {log.version} before)" if log.version else ""
        return _Derived(WITHDRAWN, request.withdrawn + done)
    if lease := log.lease:
        edited = lease.content.get("fingerprint") != request.fingerprint()
        note = "; edited meanwhile: it is erased again under the new terms" if edited else ""
        if has_exited(lease.content["worker"]):
            ended = f"its worker ended in the middle ({lease.by}, {lease.at}); it is continued"
            return _Derived(OPEN, ended + note, eligible=True)
        return _Derived(RUNNING, f"by {lease.by} since {lease.at}{note}", worker=lease.by, since=lease.at)
    outcome = log.outcome
    if outcome is None:
        return _Derived(OPEN, eligible=True)
    if outcome.content.get("fingerprint") != request.fingerprint():
        changed = f"changed since {log.version or 'it failed'}: {_changed_terms(outcome, request)}"
        return _Derived(OPEN, changed, eligible=True)
    new_params = outcome.content.get("params_sha256") != params_sha256
    if outcome.kind == FAILED:
        failures = log.failures(request.fingerprint(), params_sha256)
        retry = new_params or failures < params.schedule.attempts
        return _Derived(FELL_SHORT, str(outcome.content.get("why", "")), retry, outcome.at)
    return _of_version(snapshot, request, params, outcome, new_params)


def _of_version(
    snapshot: RequestSnapshot, request: Request, params: Params, done: LeaseEvent, new_params: bool
) -> _Derived:
    """The status of a request that was done; the version may have lost its validity since."""
    label = str(done.content["version"])
    version = snapshot.version(label)
    if version is None:
        return _Derived(OPEN, f"{label} is not in the registry any more", eligible=True)
    if snapshot.standing(str(version.name)).states.get(str(version.version)) == REVOKED:
        revoked = f"{label} was revoked; the same settings would give it again"
        return _Derived(FELL_SHORT, revoked, new_params, done.at)
    if stale := version.tags.get(STALE):
        return _Derived(OPEN, f"{label} is stale: {stale}", eligible=True)
    record, note = done.content["record"], ""
    if REEVALUATED in version.tags:
        record, note = json.loads(version.tags[REEVALUATED])["record"], "re-evaluated, "
    if unmet := unmet_criteria(record, request, params):
        return _Derived(FELL_SHORT, f"{label}: {note}{'; '.join(unmet)}", new_params, done.at)
    return _Derived(SUCCEEDED, f"by {label}", since=done.at)


def _missing(log: LeaseLog, requests: ErasureRequests, request: str) -> RequestStatus:
    recorded: Mapping[str, Any] = log.recorded.content if log.recorded else {}
    done = f"; done by {log.version} before" if log.version else ""
    detail = f"no longer in {requests.path}{done}: put it back, or say why in its `withdrawn`"
    known = {key: str(recorded.get(key, "")) for key in ("concept", "requested_by", "reason", "due")}
    return RequestStatus(request, MISSING, detail, version=log.version, log=log, **known)  # type: ignore[arg-type]


def _changed_terms(outcome: LeaseEvent, request: Request) -> str:
    before, terms = dict(outcome.content.get("terms", {})), request.terms()
    changed = [
        f"{key} {before.get(key)!r} -> {terms[key]!r}" for key in terms if before.get(key) != terms[key]
    ]
    return ", ".join(changed) or "its terms"
