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
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

from fade.config import Params
from fade.errors import BusyError, FadeError, RequestError
from fade.governance.leases import FAILED, RELEASED, STAGE, HeartbeatMonitor
from fade.governance.requests import Request
from fade.utils import progress
from tasks.registry.connection import connect
from tasks.registry.versions import load_snapshot, resolve
from tasks.requests.leases import Lease, acquire, has_exited, heartbeat, log_name, read_lease_log, report
from tasks.requests.project import Project
from tasks.requests.results import find_unreported, log_failure, record_requests, report_done, request_tags
from tasks.requests.snapshot import RequestSnapshot
from tasks.requests.status import (
    FAULTY,
    FELL_SHORT,
    MISSING,
    OPEN,
    RUNNING,
    RequestStatus,
    request_statuses,
    unmet_criteria,
)

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

HEARTBEATS = 4
"""In `schedule.lease_seconds`."""
DONE, SHORT, FAULT, WAITING = "done", "short", "failed", "waiting"


@dataclass(frozen=True)
class Outcome:
    """The result of one attempt at a request."""

    id: str
    concept: str
    result: str
    """``done``, ``short`` (of its thresholds), ``failed``, or ``waiting``: another process erases its
    target."""
    text: str = ""
    version: str = ""
    run_id: str = ""
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


Erase = Callable[..., Mapping[str, Any]]
"""``flows.erase.erase``, or a function with its signature."""


def _default_name() -> str:
    return f"{os.environ.get('FADE_USER') or 'worker'}@{socket.gethostname()} process {os.getpid()}"


@dataclass
class Worker:
    """One pass over the requests. ``slot``: entered for each erasure; blocks until a GPU is free."""

    project: Project
    erase: Erase
    slot: Callable[[], AbstractContextManager[Any]] = nullcontext
    on_outcome: Callable[[Outcome], None] = lambda outcome: None
    only: tuple[str, ...] = ()
    """Requests that are named: processed whatever their last outcome was."""
    by: str = field(default_factory=_default_name)
    now: Callable[[], float] = time.monotonic
    outcomes: list[Outcome] = field(default_factory=list)
    _tried: set[tuple[str, str]] = field(default_factory=set)
    """Keys of requests: one that is edited while it runs is processed again."""

    def run(self) -> list[Outcome]:
        """Process requests until none is open and no other worker's heartbeat is in doubt. One that fails
        does not stop the others. Raises RequestFileError, RegistryError, ConfigError."""
        params = self.project.resolve()
        self.tracking = connect(self.project.runs, timeout=params.register_.timeout_seconds)
        monitor = HeartbeatMonitor(params.schedule.lease_seconds)
        requests = self.project.requests(params)
        for identity in self.only:
            requests.get(identity)
        record_requests(self.tracking, requests, params.register_.model_prefix, self.by)
        while True:
            statuses = self.statuses()
            eligible = [one for one in statuses if self._is_eligible(one)]
            doubtful = self._observe(statuses, monitor)
            dead = [one for one, health in doubtful if health == "dead"]
            if eligible or dead:
                self._attempt(min(eligible, key=_urgency) if eligible else dead[0])
            elif any(health == "unknown" for _, health in doubtful):
                names = ", ".join(one.id for one, _ in doubtful)
                progress.report(STAGE, 0, 0, f"does that worker live? {names}")
                time.sleep(min(1.0, params.schedule.lease_seconds / 10))
            else:
                return self.outcomes

    def statuses(self) -> list[RequestStatus]:
        """The status of every request, from the files and the registry as they are now."""
        params = self.project.resolve()
        snapshot = RequestSnapshot.load(self.tracking, params.register_.model_prefix)
        requests = self.project.requests(params)
        statuses = request_statuses(snapshot, requests, params, self.project.resolve)
        return [one for one in statuses if not self.only or one.id in self.only]

    def _is_eligible(self, one: RequestStatus) -> bool:
        named = bool(self.only) and one.state in (OPEN, FELL_SHORT)
        return (one.eligible or named) and one.key not in self._tried

    def _observe(
        self, statuses: Sequence[RequestStatus], monitor: HeartbeatMonitor
    ) -> list[tuple[RequestStatus, str]]:
        """Running requests whose process this machine cannot see, and the state of their heartbeat."""
        running = [one for one in statuses if one.state == RUNNING]
        foreign = [one for one in running if has_exited(one.lease.content["worker"]) is None]
        return [(one, monitor.observe(one.id, one.lease, self.now())) for one in foreign]

    def _attempt(self, status: RequestStatus) -> None:
        """Lease a request once the slot is free, and erase it; nothing when another worker was faster."""
        with self.slot():
            params = self.project.resolve()
            request = self.project.requests(params).find(status.id)
            if request is None or request.withdrawn:
                return  # removed or withdrawn while this worker waited for the slot
            settings = self.project.resolve(request.overrides())
            content = {
                "fingerprint": request.fingerprint(),
                "params_sha256": settings.sha256(),
                "terms": request.terms(),
            }
            name = log_name(params.register_.model_prefix, request.id)
            lease = acquire(self.tracking, name, status.log, content, self.by)
            if lease is None:
                return
            self._tried.add((request.id, request.fingerprint()))
            with heartbeat(self.tracking, lease, settings.schedule.lease_seconds / HEARTBEATS):
                outcome = self._process(request, settings, lease, content)
            self.outcomes.append(outcome)
            self.on_outcome(outcome)

    def _process(
        self, request: Request, settings: Params, lease: Lease, content: Mapping[str, Any]
    ) -> Outcome:
        """Erase and report; every fault of a request becomes its outcome."""
        start = time.monotonic()
        progress.report(STAGE, 0, 0, f"{request.id}: {request.concept}")

        def outcome(result: str, text: str, **more: str) -> Outcome:
            seconds = 0.0 if result == WAITING else round(time.monotonic() - start, 1)
            return Outcome(request.id, request.concept, result, text, seconds=seconds, **more)

        try:
            version, content = self._find_or_erase(request, settings, lease, content)
            record = report_done(self.tracking, lease, version, content)
            unmet = unmet_criteria(record, request, settings)
            label, run_id = f"{version.name}/{version.version}", str(version.run_id)
            return outcome(SHORT if unmet else DONE, "; ".join(unmet), version=label, run_id=run_id)
        except RequestError as error:  # another worker has the lease
            return outcome(WAITING, str(error))
        except BusyError as error:
            self._give_up(lease, RELEASED, content, str(error))
            return outcome(WAITING, str(error))
        except Exception as error:
            run_id = self._log_failure(request, settings, lease, content, error)
            return outcome(FAULT, _message(error), run_id=run_id)
        except BaseException as error:  # Ctrl-C, TERM: the next worker need not wait for the lease to end
            self._give_up(lease, RELEASED, content, type(error).__name__)
            raise

    def _find_or_erase(
        self, request: Request, settings: Params, lease: Lease, content: Mapping[str, Any]
    ) -> tuple[ModelVersion, Mapping[str, Any]]:
        """(the version, the lease's content with the parameters that the version was made under)."""
        log = read_lease_log(self.tracking, lease.name)
        version = find_unreported(self.tracking, settings.register_.model_prefix, request, log)
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
            request={"about": about, "marks": request_tags(request), "lease": asdict(lease)},
        )
        label = f"{summary['model_name']}/{summary['model_version']}"
        return resolve(load_snapshot(self.tracking, label), label), content

    def _log_failure(
        self, request: Request, settings: Params, lease: Lease, content: Mapping[str, Any], error: Exception
    ) -> str:
        """Record the failure: a failed MLflow run, whose id is returned, and a report. An unreachable
        registry does not hide the first fault."""
        run_id = ""
        with suppress(FadeError):
            experiment, params_sha256 = settings.register_.experiment, str(content["params_sha256"])
            run_id = log_failure(self.tracking, experiment, request, error, params_sha256)
        self._give_up(lease, FAILED, {**content, "run_id": run_id}, _message(error))
        return run_id

    def _give_up(self, lease: Lease, kind: str, content: Mapping[str, Any], why: str) -> None:
        with suppress(FadeError):
            report(self.tracking, lease, kind, {**content, "why": why})


def process_requests(worker: Worker) -> dict[str, Any]:
    """One pass, as JSON data: ``outcomes``, and ``requests``, all statuses after it. Raises RequestError
    with that as ``result`` when a request failed, fell short, is missing or invalid."""
    outcomes = worker.run()
    statuses = worker.statuses()
    result = {
        "outcomes": [one.to_json() for one in outcomes],
        "requests": [one.to_json() for one in statuses],
    }
    bad = [f"{one.id}: {one.text}" for one in outcomes if one.result in (FAULT, SHORT)]
    bad += [f"{one.id}: {one.state}, {one.detail}" for one in statuses if one.state in (MISSING, FAULTY)]
    if bad:
        what = f"{len(bad)} request(s) need somebody: {' | '.join(bad)}"
        error = RequestError(what, stage=STAGE, action="see `fade requests`.")
        error.result = result
        raise error
    worker.project.requests(worker.project.resolve()).validated()
    return result


def _urgency(status: RequestStatus) -> date:
    """Sorts by due date; requests without one come last, and `min` keeps the file's order."""
    return (status.request.due if status.request else None) or date.max


def _message(error: BaseException) -> str:
    return (str(error) if isinstance(error, FadeError) else f"{type(error).__name__}: {error}")[:2000]
