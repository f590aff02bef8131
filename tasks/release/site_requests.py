"""The requests of a site: their states on the day of making, and their events from the evidence. A request
whose records cannot be read hides no other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fade.config import Params
from fade.errors import FadeError
from fade.governance.leases import LeaseEvent
from fade.governance.requests import ErasureRequests
from fade.reporting.site.data import UNREADABLE, Entry, Problem, RequestRow
from tasks.registry.log_store import SIGNATURE
from tasks.release import site_evidence as evidence
from tasks.requests.leases import RequestSnapshot, log_name
from tasks.requests.project import Project
from tasks.requests.status import MISSING, RequestStatus, request_statuses

BAD_RECORD = (FadeError, ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""What reading a record that somebody else wrote may raise."""


def request_rows(snapshot: RequestSnapshot, project: Project, params: Params) -> dict[str, Any]:
    """``requests``, each as `RequestStatus.to_json`, and ``problems``: what -> why. A file or a log that
    cannot be read hides no other request."""
    problems: dict[str, str] = {}
    path = project.root / params.schedule.requests
    requests = ErasureRequests(path)
    if path.exists():
        try:
            requests = project.requests(params)
        except FadeError as error:
            problems["requests"] = str(error)
    broken = [one for one in snapshot.recorded_requests() if not _is_readable(snapshot, one)]
    hidden = {log_name(snapshot.prefix, one) for one in broken}
    versions = {name: some for name, some in snapshot.versions.items() if name not in hidden}
    statuses = _statuses(replace(snapshot, versions=versions), requests, params, project)
    known = {one.id for one in statuses}
    # the reason stands in the evidence: `site_data` reads the same log
    statuses += [RequestStatus(one, MISSING) for one in broken if one not in known]
    return {"requests": [one.to_json() for one in statuses], "problems": problems}


def _is_readable(snapshot: RequestSnapshot, request: str) -> bool:
    try:
        snapshot.lease_log(request)
    except BAD_RECORD:
        return False
    return True


def _statuses(
    snapshot: RequestSnapshot, requests: ErasureRequests, params: Params, project: Project
) -> list[RequestStatus]:
    """As `request_statuses`; where that cannot read something, request by request."""

    def of(some: ErasureRequests) -> list[RequestStatus]:
        return request_statuses(snapshot, some, params, project.resolve)

    try:
        return of(requests)
    except BAD_RECORD:
        rows: list[RequestStatus] = []
        for request in requests.requests:
            try:
                rows.append(of(replace(requests, requests=(request,), faults=()))[0])
            except BAD_RECORD as error:
                rows.append(RequestStatus(request.id, UNREADABLE, str(error), concept=request.concept))
        others = of(replace(requests, requests=()))
        return rows + [one for one in others if one.id not in {request.id for request in requests.requests}]


def read_requests(snapshot: RequestSnapshot, folder: Path, problems: list[Problem]) -> Iterable[RequestRow]:
    content = evidence.read_json(folder, evidence.REQUESTS)
    problems += [Problem(str(what), str(why)) for what, why in content["problems"].items()]
    for one in content["requests"]:
        row = _request_row(one)
        try:
            log = snapshot.lease_log(row.id)
            signed = signed_entries(snapshot, log_name(snapshot.prefix, row.id))
            void = {event.number for event in log.void}
            events = sorted([*log.events, *log.void], key=lambda event: event.number)
            events += [log.recorded] if log.recorded else []
            entries = (_event(event, event.number in void, event.number in signed) for event in events)
            yield replace(row, events=tuple(sorted(entries, key=lambda entry: entry.number)))
        except BAD_RECORD as error:
            problems.append(Problem(f"request {row.id}", sentence(error, snapshot)))
            yield replace(row, state=UNREADABLE, detail=sentence(error, snapshot))


def _request_row(one: Mapping[str, Any]) -> RequestRow:
    """A request as the evidence has it, without its events."""

    def text(key: str) -> str:
        return str(one[key])

    return RequestRow(
        id=text("id"),
        state=text("state"),
        detail=text("detail"),
        concept=text("concept"),
        requested_by=text("requested_by"),
        reason=text("reason"),
        due=text("due"),
        overdue=one["overdue"] is True,
        version=text("version"),
        worker=text("worker"),
        since=text("since"),
        failures=int(one["failures"]),
    )


def _event(one: LeaseEvent, void: bool, signed: bool) -> Entry:
    detail = str(one.content.get("version") or one.content.get("why") or "")
    return Entry(one.number, str(one.by), str(one.at), one.kind, detail, "void" if void else "", signed)


def signed_entries(snapshot: RequestSnapshot, log: str) -> set[int]:
    """Numbers of the entries that have a signature."""
    return {int(one.version) for one in snapshot.versions_of(log) if one.tags.get(SIGNATURE)}


def sentence(error: BaseException, snapshot: RequestSnapshot) -> str:
    """The error for people, without the path of the folder that is read."""
    text = str(error) if isinstance(error, FadeError) else f"{type(error).__name__}: {error}."
    return text.replace(f"{snapshot.tracking.runs}/", "")
