"""The lease log of a request in MLflow: every event is a version of the model PREFIX.request.ID.

MLflow counts versions up and gives no number twice, to concurrent callers too, on SQLite, PostgreSQL and
through a server alike; fade/governance/leases.py needs nothing else. The heartbeat of a lease is a tag of its
version."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.errors import FadeError, RegistryError, RegistryUnreachableError, RequestError
from fade.governance.leases import ACQUIRED, RECORDED, STAGE, LeaseEvent, LeaseLog
from tasks.registry.connection import Tracking, registry_errors
from tasks.registry.models import REQUEST, all_versions, ensure_model

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

_EVENT, _HEARTBEAT = "event", "beat"
"""Tags of a version."""
_SOURCE = "fade-request:/event"
"""MLflow demands an address; nothing lies there."""
_TRIES = 6
_DESCRIPTION = (
    "What happened to an erasure request, in order; written by `fade requests run` and the scheduler."
)


def log_name(prefix: str, request: str) -> str:
    """``("fade", "panda-1")`` -> ``"fade.request.panda-1"``."""
    return f"{prefix}{REQUEST}{request}"


def read_lease_log(tracking: Tracking, name: str) -> LeaseLog:
    """The lease log ``name`` as the registry has it now. Raises RegistryError."""
    return lease_log(all_versions(tracking, name), name)


def lease_log(versions: Sequence[ModelVersion], name: str) -> LeaseLog:
    """The lease log that the versions of the model ``name`` are. Raises RegistryError."""
    return LeaseLog.of(
        [
            LeaseEvent.parse(int(v.version), v.tags.get(_EVENT, ""), int(v.tags.get(_HEARTBEAT, "0")))
            for v in versions
        ],
        name,
    )


@dataclass(frozen=True)
class Lease:
    """A worker's exclusive right to process a request. ``number``: the event that its report will follow."""

    name: str
    """Of the lease log."""
    number: int
    worker: str


def acquire(
    tracking: Tracking, name: str, after: LeaseLog, content: Mapping[str, Any], by: str
) -> Lease | None:
    """Acquire the lease behind ``after``'s last event; None when another worker was faster. Raises
    RegistryError."""
    content = {**content, "worker": process_identity()}
    number = _append(tracking, name, LeaseEvent(0, ACQUIRED, after.head, by, _now(), content))
    log = read_lease_log(tracking, name)
    return Lease(name, number, by) if log.counts(number) else None


def report(tracking: Tracking, lease: Lease, kind: str, content: Mapping[str, Any]) -> None:
    """Append DONE, FAILED or RELEASED. Raises RequestError when another worker has taken the lease over: the
    report is void then."""
    number = _append(tracking, lease.name, LeaseEvent(0, kind, lease.number, lease.worker, _now(), content))
    log = read_lease_log(tracking, lease.name)
    if not log.counts(number):
        raise _taken_over(lease, log)


def record_request(tracking: Tracking, name: str, content: Mapping[str, Any], by: str) -> None:
    """Append the request's text, so that a request that vanishes from the file is known."""
    _append(tracking, name, LeaseEvent(0, RECORDED, 0, by, _now(), content))


def confirm(tracking: Tracking, lease: Lease) -> None:
    """Raises RequestError when another worker has taken the lease over; this one must not register then."""
    log = read_lease_log(tracking, lease.name)
    if log.head != lease.number:
        raise _taken_over(lease, log)


def _taken_over(lease: Lease, log: LeaseLog) -> RequestError:
    by = log.events[-1].by if log.events else "somebody"
    what = f"{lease.name}: {by} took over (event {log.head}) while this worker was silent."
    action = "nothing was registered here; see `fade requests`."
    return RequestError(what, stage=STAGE, action=action)


@contextlib.contextmanager
def heartbeat(tracking: Tracking, lease: Lease, every: float) -> Iterator[None]:
    """While the block runs a thread raises the lease's heartbeat every ``every`` seconds. An unreachable
    registry costs one heartbeat."""
    ended = threading.Event()

    def count_up() -> None:
        count = 0
        while not ended.wait(every):
            count += 1
            with contextlib.suppress(FadeError), registry_errors(tracking.address):
                tracking.client.set_model_version_tag(lease.name, str(lease.number), _HEARTBEAT, str(count))

    thread = threading.Thread(target=count_up, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(5)


def process_identity() -> dict[str, Any]:
    """This process, in terms that no clock changes: host, boot, process table, process id, and its start in
    ticks since the boot."""
    return {**_machine(), "pid": os.getpid(), "started": _start_ticks(os.getpid())}


def has_exited(worker: Mapping[str, Any]) -> bool | None:
    """Whether the process of a `process_identity` has ended; None when it is not of this machine's process
    table, so that nobody here can know."""
    here = _machine()
    if not here["boot"] or any(worker.get(key) != value for key, value in here.items()):
        return None
    return _start_ticks(int(worker["pid"])) != worker.get("started")


def _machine() -> dict[str, str]:
    host = {"host": socket.gethostname(), "boot": "", "table": ""}
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return {**host, "boot": boot, "table": str(Path("/proc/self/ns/pid").readlink())}
    return host


def _start_ticks(pid: int) -> int | None:
    """Ticks between the boot and the process's start; None when there is no such process, or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def _append(tracking: Tracking, name: str, event: LeaseEvent) -> int:
    """Append an event; returns its number. Under many concurrent appends MLflow gives up its search for a
    free number, and the append is repeated. Raises RegistryError."""
    for attempt in range(1, _TRIES + 1):
        try:
            with registry_errors(tracking.address):
                ensure_model(tracking, name, description=_DESCRIPTION)
                version = tracking.client.create_model_version(name, _SOURCE, tags={_EVENT: event.to_json()})
            return int(version.version)
        except RegistryError as error:
            if isinstance(error, RegistryUnreachableError) or attempt == _TRIES:
                raise
            time.sleep(random.uniform(0.05, 0.4) * attempt)
    raise AssertionError("unreachable")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
