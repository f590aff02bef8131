"""The state of every request, derived from the registry: its chain of turns, the version that it was done by,
what was decided on that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from json import loads
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from fade.config import Params
from fade.governance.leases import DONE, FAILED, Course, Event, replay
from fade.governance.promotion import criteria
from fade.governance.requests import Ledger, Request, Resolve
from tasks.registry.connection import Tracking
from tasks.registry.decision_log import REVOKED
from tasks.registry.lineage import read
from tasks.registry.models import REQUEST, all_versions, model_name
from tasks.registry.runs import open_run
from tasks.registry.snapshot import RegistrySnapshot
from tasks.requests.leases import Claim, events, gone, log_name, report, see

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

OPEN, RUNNING, SUCCEEDED, FELL_SHORT, WITHDRAWN, MISSING, FAULTY = (
    "open",
    "running",
    "done",
    "failed",
    "withdrawn",
    "missing",
    "faulty",
)
STALE, REEVALUATED = "stale", "reevaluated"
"""Tags of a version that re-evaluation writes."""


@dataclass(frozen=True)
class State:
    """Where a request stands."""

    id: str
    state: str
    detail: str = ""
    """Why it is so, as a sentence."""
    concept: str = ""
    requested_by: str = ""
    reason: str = ""
    due: str = ""
    overdue: bool = False
    version: str = ""
    """``fade-panda/1``, when there is one that it was ever done by."""
    worker: str = ""
    """Who runs it."""
    since: str = ""
    failures: int = 0
    """In a row, under these terms and parameters."""
    eligible: bool = False
    """Whether the scheduler would take it up."""
    request: Request | None = field(default=None, repr=False, compare=False)
    course: Course = field(default=Course(), repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return {key: value for key, value in asdict(self).items() if key not in ("request", "course")}


class Registry(RegistrySnapshot):
    """The registry with the leases of requests."""

    def course(self, request: str) -> Course:
        """What happened to a request."""
        name = log_name(self.prefix, request)
        return replay(events(self.versions.get(name, [])), name)

    def known(self) -> list[str]:
        """The ids of all requests that were ever seen."""
        mark = f"{self.prefix}{REQUEST}"
        return sorted(name.removeprefix(mark) for name in self.versions if name.startswith(mark))


def states(tracking: Tracking, ledger: Ledger, params: Params, resolve: Resolve) -> list[State]:
    """Every request of the ledger, in order, then those that only the registry remembers. Raises
    RegistryError."""
    registry, today = (
        Registry.load(tracking, params.register_.model_prefix),
        today_in(params.schedule.timezone),
    )
    found = [_state(registry, one, params, resolve, today) for one in ledger.requests]
    found += [
        State(fault.id, FAULTY, f"{fault.field}: {fault.text}" if fault.field else fault.text)
        for fault in ledger.faults
    ]
    here = {one.id for one in found}
    return found + [_missing(registry, ledger, one) for one in registry.known() if one not in here]


def today_in(zone: str) -> date:
    """The day that it is where the team is."""
    return datetime.now(ZoneInfo(zone)).date()


def remember(tracking: Tracking, ledger: Ledger, prefix: str, by: str) -> None:
    """Tell the registry of every request that it does not know, or knows otherwise: what vanishes from the
    file is missed then."""
    registry = Registry.load(tracking, prefix)
    for one in ledger.requests:
        seen = registry.course(one.id).seen
        if seen is None or dict(seen.content) != one.to_json():
            see(tracking, log_name(prefix, one.id), one.to_json(), by)


def marks(request: Request) -> dict[str, str]:
    """Tags of a version that was made for a request; a version may have been asked for several times."""
    return {f"request.{request.id}": request.fingerprint()}


def find_done(tracking: Tracking, prefix: str, request: Request, course: Course) -> ModelVersion | None:
    """The version that a worker registered for the request, and died before it could say so."""
    told = {str(one.content.get("version")) for one in course.turns if one.kind == DONE}
    for version in all_versions(tracking, model_name(prefix, request.concept)):
        asked = all(version.tags.get(key) == value for key, value in marks(request).items())
        if asked and STALE not in version.tags and f"{version.name}/{version.version}" not in told:
            return version
    return None


def finish(tracking: Tracking, claim: Claim, version: ModelVersion, content: Mapping[str, Any]) -> bool:
    """Report DONE by ``version``, with what the gate asks about; False when the claim was taken over."""
    record = read(tracking, version).lineage.content
    asked = {
        "outputs": {key: record["outputs"].get(key) for key in ("metrics", "base_metrics")},
        "checks": {
            stage: [one for one in some if one["severity"] == "critical"]
            for stage, some in (record.get("checks") or {}).items()
        },
        "inputs": {"unchanged": record["inputs"]["unchanged"]},
    }
    return report(
        tracking, claim, DONE, {**content, "version": f"{version.name}/{version.version}", "record": asked}
    )


def log_failure(
    tracking: Tracking, experiment: str, request: Request, error: BaseException, content: Mapping[str, Any]
) -> str:
    """An MLflow run that failed, with the reason in its tags; returns its id. Raises RegistryError."""
    tags = {
        **marks(request),
        "request": request.id,
        "concept": request.concept,
        "error": type(error).__name__,
        "stage": getattr(error, "stage", ""),
        "reason": str(error)[:4000],
        "params_sha256": content.get("params_sha256", ""),
    }
    run_id = ""
    try:
        with open_run(tracking, experiment, f"request {request.id}", tags) as run:
            run_id = run.run_id
            raise _Failed  # a run ends as FAILED when its body does
    except _Failed:
        return run_id


class _Failed(Exception):
    pass


def short_of(state_content: Mapping[str, Any], request: Request, params: Params) -> list[str]:
    """What of the request's own gate does not hold."""
    return [str(one) for one in criteria(state_content, request.gate(params.gate)) if not one.holds]


def _state(registry: Registry, request: Request, params: Params, resolve: Resolve, today: date) -> State:
    course = registry.course(request.id)
    said: dict[str, Any] = {
        "concept": request.concept,
        "requested_by": request.requested_by,
        "reason": request.reason,
        "due": request.due.isoformat() if request.due else "",
        "version": _label(course),
        "request": request,
        "course": course,
    }
    wanted = resolve(request.overrides()).sha256()
    said["failures"] = course.failures(request.fingerprint(), wanted)
    state, detail, eligible, more = _judge(registry, request, course, params, wanted)
    late = request.due is not None and request.due < today and state not in (SUCCEEDED, WITHDRAWN)
    return State(request.id, state, detail, eligible=eligible, overdue=late, **{**said, **more})


def _judge(
    registry: Registry, request: Request, course: Course, params: Params, wanted: str
) -> tuple[str, str, bool, dict[str, str]]:
    """(state, why, whether the scheduler takes it up, further fields)."""
    if request.withdrawn:
        label = _label(course)
        return WITHDRAWN, request.withdrawn + (f" (done by {label} before)" if label else ""), False, {}
    if claim := course.claim:
        edited = claim.content.get("fingerprint") != request.fingerprint()
        then = "; edited meanwhile: it is erased again under the new terms" if edited else ""
        if gone(claim.content["worker"]):
            return (
                OPEN,
                f"its worker ended in the middle ({claim.by}, {claim.at}); it is continued{then}",
                True,
                {},
            )
        return (
            RUNNING,
            f"by {claim.by} since {claim.at}{then}",
            False,
            {"worker": claim.by, "since": claim.at},
        )
    last = course.outcome
    if last is None:
        return OPEN, "", True, {}
    if last.content.get("fingerprint") != request.fingerprint():
        label = _label(course)
        return OPEN, f"changed since {label or 'it failed'}: {_changes(last, request)}", True, {}
    again = last.content.get("params_sha256") != wanted
    if last.kind == FAILED:
        failures, attempts = course.failures(request.fingerprint(), wanted), params.schedule.attempts
        left = again or failures < attempts
        return FELL_SHORT, str(last.content.get("why", "")), left, {"since": last.at}
    label = str(last.content["version"])
    version = registry.version(label)
    if version is None:
        return OPEN, f"{label} is not in the registry any more", True, {}
    if registry.standing(str(version.name)).states.get(str(version.version)) == REVOKED:
        return (
            FELL_SHORT,
            f"{label} was revoked; the same settings would give it again",
            again,
            {"since": last.at},
        )
    if stale := version.tags.get(STALE):
        return OPEN, f"{label} is stale: {stale}", True, {}
    content = (
        loads(version.tags[REEVALUATED])["record"] if REEVALUATED in version.tags else last.content["record"]
    )
    if short := short_of(content, request, params):
        since = "re-evaluated, " if REEVALUATED in version.tags else ""
        return FELL_SHORT, f"{label}: {since}{'; '.join(short)}", again, {"since": last.at}
    return SUCCEEDED, f"by {label}", False, {"since": last.at}


def _missing(registry: Registry, ledger: Ledger, request: str) -> State:
    course = registry.course(request)
    seen: Mapping[str, Any] = course.seen.content if course.seen else {}
    label = _label(course)
    detail = (
        f"no longer in {ledger.path}"
        + (f"; done by {label} before" if label else "")
        + ": put it back, or say why in its `withdrawn`"
    )
    known: dict[str, Any] = {
        key: str(seen.get(key, "")) for key in ("concept", "requested_by", "reason", "due")
    }
    return State(request, MISSING, detail, version=label, course=course, **known)


def _label(course: Course) -> str:
    done = next((one for one in reversed(course.turns) if one.kind == DONE), None)
    return str(done.content["version"]) if done else ""


def _changes(last: Event, request: Request) -> str:
    before, now = dict(last.content.get("terms", {})), request.terms()
    return (
        ", ".join(f"{key} {before.get(key)!r} -> {now[key]!r}" for key in now if before.get(key) != now[key])
        or "its terms"
    )
