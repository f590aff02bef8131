"""Work off the open requests: each claimed in the registry, erased, and reported, so that none is erased
twice and none skipped.

A worker takes the GPU's slot first and the claim second, so that a request is called running only while
somebody runs it. What a worker reports that was taken for dead meanwhile is void, and it registers nothing:
it holds its claim against the registry right before it would (`tasks.requests.leases.confirm`)."""

from __future__ import annotations

import fcntl
import itertools
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from fade.config import Params
from fade.data.manifest import MANIFEST
from fade.data.vocabulary import slug
from fade.errors import BusyError, FadeError, LedgerError, RequestError
from fade.governance.leases import FAILED, RELEASED, Event, Watch
from fade.governance.requests import Ledger, Request, added, load_ledger, parse_ledger
from fade.run.context import RunContext
from fade.run.resolve_params import resolve as resolve_file
from fade.utils import progress
from fade.utils.files import make_folder, write_whole
from tasks.registry.connection import connect
from tasks.registry.versions import load_snapshot
from tasks.registry.versions import resolve as find_version
from tasks.requests.leases import Claim, beating, confirm, course, gone, log_name, report, take
from tasks.requests.status import (
    FAULTY,
    FELL_SHORT,
    MISSING,
    OPEN,
    RUNNING,
    Registry,
    State,
    find_done,
    finish,
    log_failure,
    marks,
    remember,
    short_of,
    states,
    today_in,
)

BEATS = 4
"""Beats in a lease."""
DONE, SHORT, FAILED_, WAITING = "done", "short", "failed", "waiting"


@dataclass(frozen=True)
class Where:
    """The project whose requests are worked off."""

    params_file: Path = Path("params.yaml")
    runs: Path = Path("runs")
    overrides: tuple[str, ...] = ()

    @property
    def root(self) -> Path:
        return self.params_file.parent

    def resolve(self, more: Sequence[str] = ()) -> Params:
        """The parameters, read anew; ``more`` wins. Raises ConfigError."""
        return resolve_file(self.params_file, [*self.overrides, *more])

    def ledger(self, params: Params) -> Ledger:
        """The ledger as it is now, checked against the vocabulary where the data is at hand. Raises
        LedgerError."""
        at_hand = (self.root / params.data.images / MANIFEST).is_file()
        vocabulary = RunContext(params, "", self.runs, self.root).vocabulary if at_hand else None
        return load_ledger(self.root / params.schedule.requests, vocabulary, self.resolve)


@dataclass(frozen=True)
class Outcome:
    """What became of a request in this pass."""

    id: str
    concept: str
    result: str
    """``done``, ``short`` (of its thresholds), ``failed``, or ``waiting``: somebody else works on its
    target."""
    text: str = ""
    version: str = ""
    run_id: str = ""
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


Erase = Callable[..., Mapping[str, Any]]
"""``flows.erase.erase``, or what stands in for it."""


@dataclass
class Worker:
    """One pass over the requests. ``slot``: entered for each erasure; waits until a GPU is free."""

    where: Where
    erase: Erase
    slot: Callable[[], AbstractContextManager[Any]] = nullcontext
    tell: Callable[[Outcome], None] = lambda outcome: None
    only: tuple[str, ...] = ()
    """Requests that are asked for by name: tried whatever became of them before."""
    by: str = field(
        default_factory=lambda: (
            f"{os.environ.get('FADE_USER') or 'worker'}@{socket.gethostname()} process {os.getpid()}"
        )
    )
    now: Callable[[], float] = time.monotonic
    tried: set[tuple[str, str]] = field(default_factory=set)
    """Requests under their terms: one that is edited while it runs is taken up again."""
    outcomes: list[Outcome] = field(default_factory=list)

    def run(self) -> list[Outcome]:
        """Until nothing is open and no other worker's claim is in doubt. Raises LedgerError, RegistryError,
        ConfigError.

        A request that fails is reported and does not stop the others.
        """
        params = self.where.resolve()
        self.tracking = connect(self.where.runs, timeout=params.register_.timeout_seconds)
        watch = Watch(params.schedule.lease_seconds)
        ledger = self.where.ledger(params)
        for one in self.only:
            ledger.get(one)
        remember(self.tracking, ledger, params.register_.model_prefix, self.by)
        while True:
            found = self.look()
            doubted = self.doubted(found, watch, params)
            ready = [one for one in found if self.wants(one) and _key(one) not in self.tried]
            if ready:
                self.attempt(min(ready, key=_urgency(found)))
            elif dead := [one for one, verdict in doubted if verdict == "dead"]:
                self.attempt(dead[0])
            elif any(verdict == "unknown" for _, verdict in doubted):
                progress.report(
                    "requests", 0, 0, "does that worker live? " + ", ".join(one.id for one, _ in doubted)
                )
                time.sleep(min(1.0, params.schedule.lease_seconds / 10))
            else:
                return self.outcomes

    def look(self) -> list[State]:
        """Every state, from the files and the registry as they are now."""
        params = self.where.resolve()
        found = states(self.tracking, self.where.ledger(params), params, self.where.resolve)
        return [one for one in found if not self.only or one.id in self.only]

    def wants(self, one: State) -> bool:
        return one.eligible or (bool(self.only) and one.state in (OPEN, FELL_SHORT))

    def doubted(self, found: Sequence[State], watch: Watch, params: Params) -> list[tuple[State, str]]:
        """Requests that run elsewhere, where this machine cannot see the process, and what their beat
        says."""
        prefix = params.register_.model_prefix
        foreign = [
            one for one in found if one.state == RUNNING and gone(_claim(one).content["worker"]) is None
        ]
        return [(one, watch.look(log_name(prefix, one.id), _claim(one), self.now())) for one in foreign]

    def attempt(self, one: State) -> None:
        """Claim a request and erase it, when it is still to be had once the slot is."""
        with self.slot():
            params = self.where.resolve()
            request = _current(self.where.ledger(params), one.id)
            if request is None:
                return  # it left the ledger meanwhile: its state says so
            name = log_name(params.register_.model_prefix, request.id)
            if course(self.tracking, name).head != one.course.head:
                return  # somebody was faster, or it was seen to: look again
            settings = self.where.resolve(request.overrides())
            content = {
                "fingerprint": request.fingerprint(),
                "params_sha256": settings.sha256(),
                "terms": request.terms(),
            }
            claim = take(self.tracking, name, one.course, content, self.by)
            if claim is None:
                return
            self.tried.add((request.id, request.fingerprint()))
            with beating(self.tracking, claim, settings.schedule.lease_seconds / BEATS):
                self.outcomes.append(self.work(request, settings, claim, content))
            self.tell(self.outcomes[-1])

    def work(self, request: Request, settings: Params, claim: Claim, content: Mapping[str, Any]) -> Outcome:
        """Erase and report; every fault of a request becomes its outcome."""
        start = time.monotonic()
        progress.report("requests", 0, 0, f"{request.id}: {request.concept}")
        try:
            version = find_done(
                self.tracking, settings.register_.model_prefix, request, course(self.tracking, claim.name)
            )
            if version is not None:
                content = {
                    **content,
                    "params_sha256": version.tags["params_sha256"],
                }  # those that it was made under
            else:
                summary = self.erase(
                    request.concept,
                    settings.model_dump(mode="json", by_alias=True),
                    runs=str(self.where.runs),
                    root=str(self.where.root),
                    overrides=[*self.where.overrides, *request.overrides()],
                    params_file=str(self.where.params_file),
                    request={"about": _about(request), "marks": marks(request), "claim": asdict(claim)},
                )
                label = f"{summary['model_name']}/{summary['model_version']}"
                version = find_version(load_snapshot(self.tracking, label), label)
            label = f"{version.name}/{version.version}"
            if not finish(self.tracking, claim, version, content):
                confirm(self.tracking, claim)
            short = short_of(course(self.tracking, claim.name).turns[-1].content["record"], request, settings)
            spent = round(time.monotonic() - start, 1)
            return Outcome(
                request.id,
                request.concept,
                SHORT if short else DONE,
                "; ".join(short),
                label,
                str(version.run_id),
                spent,
            )
        except RequestError as error:  # another worker has it
            return Outcome(request.id, request.concept, WAITING, str(error))
        except BusyError as error:
            self.give_up(claim, RELEASED, content, str(error))
            return Outcome(request.id, request.concept, WAITING, str(error))
        except Exception as error:
            run_id = self.fail(request, settings, claim, content, error)
            spent = round(time.monotonic() - start, 1)
            return Outcome(request.id, request.concept, FAILED_, _said(error), run_id=run_id, seconds=spent)
        except BaseException as error:  # Ctrl-C, TERM: the next worker need not wait for the lease
            self.give_up(claim, RELEASED, content, type(error).__name__)
            raise

    def fail(
        self, request: Request, settings: Params, claim: Claim, content: Mapping[str, Any], error: Exception
    ) -> str:
        """Leave the failure in the registry: a run that failed, and the turn. A registry that is away does
        not hide the first fault."""
        run_id = ""
        with suppress(FadeError):
            run_id = log_failure(self.tracking, settings.register_.experiment, request, error, content)
        self.give_up(claim, FAILED, {**content, "run_id": run_id}, _said(error))
        return run_id

    def give_up(self, claim: Claim, kind: str, content: Mapping[str, Any], why: str) -> None:
        with suppress(FadeError):
            report(self.tracking, claim, kind, {**content, "why": why})


def add(where: Where, fields: Mapping[str, Any]) -> Request:
    """Append a request to the ledger, which is made when there is none. An id that is left out is
    CONCEPT-DATE, and a number if need be.

    Raises LedgerError for what cannot be asked for, StorageError. Two who add at once wait for one another.
    """
    params = where.resolve()
    path = where.root / params.schedule.requests
    make_folder(where.runs / "requests")
    with (where.runs / "requests" / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        known = load_ledger(path) if path.exists() else Ledger(path)
        tracking = connect(where.runs, timeout=params.register_.timeout_seconds)
        taken = {one.id for one in known.requests} | {one.id for one in known.faults}
        taken |= set(Registry.load(tracking, params.register_.model_prefix).known())
        today = today_in(params.schedule.timezone)
        entry = {
            "date": today.isoformat(),
            **{k: v for k, v in fields.items() if v not in (None, "", [], {})},
        }
        entry.setdefault("id", _fresh(f"{slug(entry['concept'])[:40]}-{today:%Y%m%d}", taken))
        if entry["id"] in taken:
            raise LedgerError(
                f"{entry['id']!r} is taken.",
                stage="requests",
                action="choose another --id; an id is given once, for ever.",
            )
        at_hand = (where.root / params.data.images / MANIFEST).is_file()
        vocabulary = RunContext(params, "", where.runs, where.root).vocabulary if at_hand else None
        checked = parse_ledger(yaml.safe_dump({"requests": [entry]}), path, vocabulary, where.resolve)
        if checked.faults:
            said = "; ".join(f"{fault.field}: {fault.text}" for fault in checked.faults)
            raise LedgerError(
                f"this cannot be asked for: {said}.", stage="requests", action="correct it and add it again."
            )
        write_whole(path, added(text, checked.requests[0]), stage="requests")
        remember(
            tracking,
            Ledger(path, checked.requests),
            params.register_.model_prefix,
            str(entry["requested_by"]),
        )
    return checked.requests[0]


def _fresh(wanted: str, taken: set[str]) -> str:
    names = itertools.chain([wanted], (f"{wanted}-{i}" for i in itertools.count(2)))
    return next(name for name in names if name not in taken)


def work_off(worker: Worker) -> dict[str, Any]:
    """A pass, told as JSON: outcomes, and all states after it. Raises RequestError, which carries it, when
    something failed."""
    outcomes = worker.run()
    after = worker.look()
    params = worker.where.resolve()
    ledger = worker.where.ledger(params)
    told = {"outcomes": [one.to_json() for one in outcomes], "requests": [one.to_json() for one in after]}
    bad = [f"{one.id}: {one.text}" for one in outcomes if one.result in (FAILED_, SHORT)]
    bad += [f"{one.id}: {one.state}, {one.detail}" for one in after if one.state in (MISSING, FAULTY)]
    if bad:
        error = RequestError(
            f"{len(bad)} request(s) need somebody: {' | '.join(bad)}",
            stage="requests",
            action="see `fade requests`.",
        )
        error.told = told  # type: ignore[attr-defined]
        raise error
    ledger.checked()
    return told


def _current(ledger: Ledger, wanted: str) -> Request | None:
    try:
        found = ledger.get(wanted)
    except LedgerError:
        return None
    return None if found.withdrawn else found


def _about(request: Request) -> dict[str, str]:
    """Why it is erased, for the version's record and its card."""
    return {"id": request.id, "reason": request.reason, "by": request.requested_by}


def _key(one: State) -> tuple[str, str]:
    return one.id, one.request.fingerprint() if one.request else ""


def _claim(one: State) -> Event:
    claim = one.course.claim
    assert claim is not None
    return claim


def _urgency(found: Sequence[State]) -> Callable[[State], tuple[date, int]]:
    place = {one.id: i for i, one in enumerate(found)}
    return lambda one: ((one.request.due if one.request else None) or date.max, place[one.id])


def _said(error: BaseException) -> str:
    return (str(error) if isinstance(error, FadeError) else f"{type(error).__name__}: {error}")[:2000]
