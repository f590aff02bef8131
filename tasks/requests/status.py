"""The status of every request, derived from the registry: its lease log, the version that it was done by, the
decisions about that version."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from fade.config import Params, PromotionPolicy
from fade.errors import FadeError, RegistryError
from fade.governance import history
from fade.governance.leases import FAILED, LeaseEvent, LeaseLog
from fade.governance.promotion import criteria
from fade.governance.requests import ErasureRequests, Request, Resolve
from fade.governance.stored_values import ACTION, parse_json
from tasks.registry.releases import why_stays_out
from tasks.registry.snapshot import RegistrySnapshot
from tasks.requests.leases import RequestSnapshot, has_exited, is_abandoned, log_name

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

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

    def to_json(self) -> dict[str, Any]:
        """As ``fade requests --json`` prints it."""
        return {key: value for key, value in asdict(self).items() if key not in ("request", "log")}


def request_statuses(
    snapshot: RequestSnapshot, requests: ErasureRequests, params: Params, resolve: Resolve
) -> list[RequestStatus]:
    """Every request of the file, in order, then those that only the registry has. One whose records were
    tampered with is FAULTY. Raises RegistryError."""
    today = today_in(params.schedule.timezone)
    statuses = [
        _readable(request.id, partial(_status, snapshot, request, params, resolve, today), request)
        for request in requests.requests
    ]
    statuses += [RequestStatus(fault.id, FAULTY, fault.detail) for fault in requests.faults]
    missing = [request for request in snapshot.recorded_requests() if request not in requests.ids]
    return statuses + [_readable(one, partial(_missing, snapshot, requests, one)) for one in missing]


def _readable(
    identity: str, status: Callable[[], RequestStatus], request: Request | None = None
) -> RequestStatus:
    """The status; of a request whose records in the registry cannot be trusted one that says so: it hides no
    other."""
    try:
        return status()
    except FadeError as error:
        if not error.tampered:
            raise
        texts = _texts(request.to_json()) if request else {}
        return RequestStatus(identity, FAULTY, f"unreadable: {error}", **texts, request=request)


def today_in(zone: str) -> date:
    """Today's date in a time zone of the IANA list."""
    return datetime.now(ZoneInfo(zone)).date()


def unmet_criteria(record: Mapping[str, Any], gate: PromotionPolicy) -> list[str]:
    """The gate's criteria that a record does not meet."""
    return [str(one) for one in criteria(record, gate) if not one.holds]


def gate_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a lineage record that the gate reads."""
    outputs, checks = record["outputs"], record.get("checks") or {}
    critical = {
        stage: [one for one in some if one["severity"] == "critical"] for stage, some in checks.items()
    }
    return {
        "outputs": {key: outputs.get(key) for key in ("metrics", "base_metrics")},
        "checks": critical,
        "inputs": {"unchanged": record["inputs"]["unchanged"]},
    }


def _status(
    snapshot: RequestSnapshot, request: Request, params: Params, resolve: Resolve, today: date
) -> RequestStatus:
    log, params_sha256 = snapshot.lease_log(request.id), resolve(request.overrides()).sha256()
    pending = RequestStatus(
        request.id,
        OPEN,
        **_texts(request.to_json()),
        overdue=request.due is not None and request.due < today,
        version=log.version,
        failures=log.failures(request.fingerprint(), params_sha256),
        request=request,
        log=log,
    )
    if request.withdrawn:
        done = f" (done by {log.version} before)" if log.version else ""
        return replace(pending, state=WITHDRAWN, detail=request.withdrawn + done, overdue=False)
    if log.lease:
        return _of_lease(pending, request, log.lease, log_name(snapshot.prefix, request.id))
    if log.outcome is None:
        return replace(pending, eligible=True)
    return _of_outcome(snapshot, pending, request, log.outcome, params, params_sha256)


def _of_lease(pending: RequestStatus, request: Request, lease: LeaseEvent, name: str) -> RequestStatus:
    edited = lease.content.get("fingerprint") != request.fingerprint()
    note = "; edited meanwhile: it is erased again under the new terms" if edited else ""
    if has_exited(lease.content.get("worker")) or is_abandoned(name, lease):
        ended = f"its worker ended in the middle ({lease.by}, {lease.at}); it is continued"
        return replace(pending, detail=ended + note, eligible=True)
    detail = f"by {lease.by} since {lease.at}{note}"
    return replace(pending, state=RUNNING, detail=detail, worker=lease.by, since=lease.at)


def _of_outcome(
    snapshot: RequestSnapshot,
    pending: RequestStatus,
    request: Request,
    outcome: LeaseEvent,
    params: Params,
    params_sha256: str,
) -> RequestStatus:
    """The status after DONE or FAILED; the version may have lost its validity since."""
    content = outcome.content
    if content.get("fingerprint") != request.fingerprint():
        changed = f"changed since {pending.version or 'it failed'}: {_changed_terms(outcome, request)}"
        return replace(pending, detail=changed, eligible=True)
    new_params = content.get("params_sha256") != params_sha256
    failed = replace(pending, state=FELL_SHORT, since=outcome.at, eligible=new_params)
    if outcome.kind == FAILED:
        retry = new_params or pending.failures < params.schedule.attempts
        return replace(failed, detail=str(content.get("why", "")), eligible=retry)
    label = pending.version
    version = snapshot.version(label)
    if version is None:
        return replace(pending, detail=f"{label} is not in the registry any more", eligible=True)
    if snapshot.revoked_as(version):
        return replace(failed, detail=f"{label} was revoked; the same settings would give it again")
    if stale := stale_reason(snapshot, version):
        return replace(pending, detail=f"{label} is stale: {stale}", eligible=True)
    record, note = content.get("record", {}), ""
    if last := last_evaluation(snapshot, version):
        record, note = last["record"], "re-evaluated, "
    if unmet := unmet_criteria(record, request.gate(params.gate)):
        return replace(failed, detail=f"{label}: {note}{'; '.join(unmet)}")
    detail = "; ".join(filter(None, (f"by {label}", why_stays_out(snapshot, label))))
    return replace(pending, state=SUCCEEDED, detail=detail, since=outcome.at, overdue=False)


def stale_reason(snapshot: RegistrySnapshot, version: ModelVersion) -> str:
    """Why a version is stale; empty when it is not. Raises RegistryError, SignatureError."""
    content = snapshot.last_event(version, history.STALE, STALE)
    return content if isinstance(content, str) else str((content or {}).get("why", ""))


def last_evaluation(snapshot: RegistrySnapshot, version: ModelVersion) -> Mapping[str, Any] | None:
    """What re-evaluation recorded of a version last; None when there is nothing. Raises RegistryError,
    SignatureError."""
    content = snapshot.last_event(version, history.REEVALUATED, REEVALUATED)
    what = f"{version.name}/{version.version}: its tag {REEVALUATED}"
    content = parse_json(content, what, dict) if isinstance(content, str) else content
    if content is not None and not isinstance(content.get("record"), dict):
        raise RegistryError(f"{what} holds no record.", stage="requests", action=ACTION, tampered=True)
    return content


def _missing(snapshot: RequestSnapshot, requests: ErasureRequests, request: str) -> RequestStatus:
    log = snapshot.lease_log(request)
    recorded: Mapping[str, Any] = log.recorded.content if log.recorded else {}
    done = f"; done by {log.version} before" if log.version else ""
    detail = f"no longer in {requests.path}{done}: put it back, or say why in its `withdrawn`"
    return RequestStatus(request, MISSING, detail, **_texts(recorded), version=log.version, log=log)


def _texts(content: Mapping[str, Any]) -> dict[str, Any]:
    """Of a request as JSON."""
    return {key: str(content.get(key, "")) for key in ("concept", "requested_by", "reason", "due")}


def _changed_terms(outcome: LeaseEvent, request: Request) -> str:
    before, terms = outcome.content.get("terms"), request.terms()
    before = before if isinstance(before, Mapping) else {}
    changes = [
        f"{key} {before.get(key)!r} -> {terms[key]!r}" for key in terms if before.get(key) != terms[key]
    ]
    return ", ".join(changes) or "its terms"
