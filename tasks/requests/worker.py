"""Process the open requests: each is leased in the registry, erased, and reported, so that none is erased
twice and none skipped.

A worker takes the GPU's slot before the lease, so that a request counts as running only while somebody
processes it. A worker whose lease was taken over registers nothing: it confirms its lease right before it
would (`tasks.requests.leases.confirm`), and its report is void."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from functools import partial
from typing import TYPE_CHECKING, Any

from fade.config import Params
from fade.errors import BusyError, FadeError, RegistryUnreachableError, RequestError, error_text
from fade.governance.leases import DONE, FAILED, RELEASED, STAGE, HeartbeatMonitor
from fade.governance.requests import Request
from fade.redact import redact
from fade.utils import progress
from tasks.registry import lineage, models, runs, versions
from tasks.registry.connection import Tracking, connect
from tasks.registry.log_store import TRUST
from tasks.registry.snapshot import RegistrySnapshot
from tasks.registry.trust import Trust
from tasks.requests import leases, status
from tasks.requests.leases import Lease
from tasks.requests.project import Project
from tasks.requests.status import RequestStatus

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

HEARTBEATS = 4
"""In `schedule.lease_seconds`."""
SHORT, WAITING = "short", "waiting"
"""Results beside DONE and FAILED: short of its thresholds; another process erases its target."""


@dataclass(frozen=True)
class Outcome:
    """The result of one attempt at a request: DONE, SHORT, FAILED or WAITING."""

    id: str
    concept: str
    result: str
    text: str = ""
    version: str = ""
    run_id: str = ""
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def _default_name() -> str:
    return f"{os.environ.get('FADE_USER') or 'worker'}@{socket.gethostname()} process {os.getpid()}"


@dataclass
class Worker:
    """One pass over the requests. ``slot``: entered for each erasure; blocks until a GPU is free."""

    project: Project
    erase: Callable[..., Mapping[str, Any]]
    """``flows.erase.erase``, or a function with its signature."""
    slot: Callable[[], AbstractContextManager[Any]] = nullcontext
    on_outcome: Callable[[Outcome], None] = lambda outcome: None
    only: tuple[str, ...] = ()
    """Requests that are named: processed whatever their last outcome was."""
    by: str = field(default_factory=_default_name)
    outcomes: list[Outcome] = field(default_factory=list)
    _tried: set[tuple[str, str]] = field(default_factory=set)
    """Keys of requests: one that is edited while it runs is processed again."""

    def run(self) -> list[Outcome]:
        """Process requests until none is open and no other worker's heartbeat is in doubt. One that fails
        does not stop the others; a registry that goes away ends the pass. Raises RequestFileError,
        RegistryError, RegistryUnreachableError, ConfigError."""
        params = self.project.resolve()
        self.tracking = connect(self.project.runs, timeout=params.register_.timeout_seconds)
        self._trust(params).require_signer("the result of a request")
        monitor = HeartbeatMonitor(params.schedule.lease_seconds)
        requests = self.project.requests(params)
        for identity in self.only:
            requests.get(identity)
        prefix = params.register_.model_prefix
        leases.record_requests(self.tracking, requests, prefix, self.by, self._trust(params))
        while True:
            statuses = self.statuses()
            eligible = sorted(filter(self._is_eligible, statuses), key=_urgency)
            doubtful = _observe(statuses, monitor)
            dead = [one for one, health in doubtful if health == "dead"]
            if eligible or dead:
                self._attempt([*eligible, *dead][0])
            elif any(health == "unknown" for _, health in doubtful):
                names = ", ".join(one.id for one, _ in doubtful)
                progress.report(STAGE, 0, 0, f"does that worker live? {names}")
                time.sleep(min(1.0, params.schedule.lease_seconds / 10))
            else:
                return self.outcomes

    def _trust(self, params: Params) -> Trust:
        return Trust.of(params.signing, self.project.root)

    def statuses(self) -> list[RequestStatus]:
        """The status of every request, from the files and the registry as they are now."""
        params = self.project.resolve()
        prefix = params.register_.model_prefix
        snapshot = leases.RequestSnapshot.load(self.tracking, prefix, self._trust(params))
        requests = self.project.requests(params)
        statuses = status.request_statuses(snapshot, requests, params, self.project.resolve)
        return [one for one in statuses if not self.only or one.id in self.only]

    def _is_eligible(self, one: RequestStatus) -> bool:
        named = bool(self.only) and one.state in (status.OPEN, status.FELL_SHORT)
        return (one.eligible or named) and one.key not in self._tried

    def _attempt(self, one: RequestStatus) -> None:
        """Lease a request once the slot is free, and erase it; nothing when another worker was faster."""
        with self.slot():
            params = self.project.resolve()
            request = self.project.requests(params).find(one.id)
            if request is None or request.withdrawn:
                return  # removed or withdrawn while this worker waited for the slot
            settings = self.project.resolve(request.overrides())
            fingerprint, terms = request.fingerprint(), request.terms()
            content = {"fingerprint": fingerprint, "params_sha256": settings.sha256(), "terms": terms}
            name = leases.log_name(params.register_.model_prefix, request.id)
            lease = leases.acquire(self.tracking, name, one.log, content, self.by, self._trust(params))
            if lease is None:
                return
            self._tried.add((request.id, fingerprint))
            start = time.monotonic()
            with leases.heartbeat(self.tracking, lease, settings.schedule.lease_seconds / HEARTBEATS):
                outcome = self._process(request, settings, lease, content)
            if outcome.result != WAITING:
                outcome = replace(outcome, seconds=round(time.monotonic() - start, 1))
            self.outcomes.append(outcome)
            self.on_outcome(outcome)

    def _process(
        self, request: Request, settings: Params, lease: Lease, content: Mapping[str, Any]
    ) -> Outcome:
        """Erase and report; every fault of a request becomes its outcome."""
        outcome = partial(Outcome, request.id, request.concept)
        progress.report(STAGE, 0, 0, f"{request.id}: {request.concept}")
        try:
            version, content = self._find_or_erase(request, settings, lease, content)
            record = report_done(self.tracking, lease, version, content, self._trust(settings))
            unmet = status.unmet_criteria(record, request.gate(settings.gate))
            label, run_id = f"{version.name}/{version.version}", str(version.run_id)
            return outcome(SHORT if unmet else DONE, "; ".join(unmet), version=label, run_id=run_id)
        except RequestError as error:  # another worker has the lease
            return outcome(WAITING, str(error))
        except BusyError as error:
            self._give_up(lease, RELEASED, content, str(error), settings)
            return outcome(WAITING, str(error))
        except RegistryUnreachableError as error:  # no fault of the request: the next pass continues it
            self._give_up(lease, RELEASED, content, str(error), settings)
            raise
        except Exception as error:
            run_id = self._log_failure(request, settings, content, error)
            self._give_up(lease, FAILED, {**content, "run_id": run_id}, _message(error), settings)
            return outcome(FAILED, _message(error), run_id=run_id)
        except BaseException as error:  # Ctrl-C, TERM: the next worker need not wait for the lease to end
            self._give_up(lease, RELEASED, content, type(error).__name__, settings)
            raise

    def _find_or_erase(
        self, request: Request, settings: Params, lease: Lease, content: Mapping[str, Any]
    ) -> tuple[ModelVersion, Mapping[str, Any]]:
        """(the version, the lease's content with the parameters that the version was made under)."""
        version = self._find_unreported(request, settings, lease)
        if version is not None:
            return version, {**content, "params_sha256": version.tags["params_sha256"]}
        about = {"id": request.id, "reason": request.reason, "by": request.requested_by}
        summary = self.erase(
            request.concept,
            settings.model_dump(mode="json", by_alias=True),
            runs=str(self.project.runs),
            root=str(self.project.root),
            overrides=[*self.project.overrides, *request.overrides()],
            params_file=str(self.project.params_file),
            request={"about": about, "marks": _request_tags(request), "lease": asdict(lease)},
        )
        label = f"{summary['model_name']}/{summary['model_version']}"
        snapshot = versions.load_snapshot(self.tracking, label, self._trust(settings))
        return versions.resolve(snapshot, label), content

    def _find_unreported(self, request: Request, settings: Params, lease: Lease) -> ModelVersion | None:
        """The version that a worker registered for the request before it died without a report; else None."""
        trust = self._trust(settings)
        events = leases.read_lease_log(self.tracking, lease.name, trust).events
        reported = {str(event.content.get("version")) for event in events if event.kind == DONE}
        name = models.model_name(settings.register_.model_prefix, request.concept)
        snapshot = RegistrySnapshot.load_model(self.tracking, name, trust)
        for version in snapshot.versions_of(name):
            made_for = _request_tags(request).items() <= version.tags.items()
            if not made_for or f"{name}/{version.version}" in reported:
                continue
            if not status.stale_reason(snapshot, version) and not snapshot.revoked_as(version):
                return version
        return None

    def _log_failure(
        self, request: Request, settings: Params, content: Mapping[str, Any], error: Exception
    ) -> str:
        """Make a failed MLflow run with the reason in its tags; returns its id. An unreachable registry does
        not hide the first fault: the id is empty then."""
        tags = {"request": request.id, "concept": request.concept, "params_sha256": content["params_sha256"]}
        why = {
            "error": type(error).__name__,
            "stage": getattr(error, "stage", ""),
            "reason": redact(str(error))[:4000],
        }
        tags |= {**_request_tags(request), **why}
        run_id, name = "", f"request {request.id}"
        with (
            suppress(FadeError),
            runs.open_run(self.tracking, settings.register_.experiment, name, tags) as run,
        ):
            run_id = run.run_id
            raise RequestError(_message(error), stage=STAGE)  # a run ends as FAILED when its body raises
        return run_id

    def _give_up(
        self, lease: Lease, kind: str, content: Mapping[str, Any], why: str, settings: Params
    ) -> None:
        with suppress(FadeError):
            leases.report(self.tracking, lease, kind, {**content, "why": why}, self._trust(settings))


def process_requests(worker: Worker) -> dict[str, Any]:
    """One pass, as JSON data: ``outcomes``, and ``requests``, all statuses after it. Raises RequestError
    with that as ``result`` when a request failed, fell short, is missing or invalid."""
    outcomes, statuses = worker.run(), worker.statuses()
    result = {
        "outcomes": [one.to_json() for one in outcomes],
        "requests": [one.to_json() for one in statuses],
    }
    bad = [f"{one.id}: {one.text}" for one in outcomes if one.result in (FAILED, SHORT)]
    invalid = [one for one in statuses if one.state in (status.MISSING, status.FAULTY)]
    bad += [f"{one.id}: {one.state}, {one.detail}" for one in invalid]
    if bad:
        what = f"{len(bad)} request(s) need somebody: {' | '.join(bad)}"
        error = RequestError(what, stage=STAGE, action="see `fade requests`.")
        error.result = result
        raise error
    worker.project.requests(worker.project.resolve()).validated()
    return result


def report_done(
    tracking: Tracking,
    lease: Lease,
    version: ModelVersion,
    content: Mapping[str, Any],
    trust: Trust = TRUST,
) -> dict[str, Any]:
    """Report DONE by ``version``, with the part of its record that the gate reads; returns that part. Raises
    RequestError when the lease was taken over."""
    snapshot = RegistrySnapshot.load_model(tracking, str(version.name), trust)
    record = status.gate_record(lineage.read(snapshot, version).lineage.content)
    label = f"{version.name}/{version.version}"
    leases.report(tracking, lease, DONE, {**content, "version": label, "record": record}, trust)
    return record


def _observe(statuses: Sequence[RequestStatus], monitor: HeartbeatMonitor) -> list[tuple[RequestStatus, str]]:
    """Running requests whose process this machine cannot see, and the state of their heartbeat."""
    leased = [(one, one.log.lease) for one in statuses if one.state == status.RUNNING]
    return [
        (one, monitor.observe(one.id, lease, time.monotonic()))
        for one, lease in leased
        if lease is not None and leases.has_exited(lease.content.get("worker")) is None
    ]


def _request_tags(request: Request) -> dict[str, str]:
    """Tags of a version that was made for a request; a version may carry those of several requests."""
    return {f"request.{request.id}": request.fingerprint()}


def _urgency(one: RequestStatus) -> date:
    """Sorts by due date, those without one last; of equals the file's order stays."""
    return (one.request.due if one.request else None) or date.max


def _message(error: BaseException) -> str:
    return error_text(error)[:2000]
