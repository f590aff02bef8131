"""The lease log of a request in MLflow (tasks/registry/log_store.py): every event is a version of the model
PREFIX.request.ID. The heartbeat of a lease is a tag of its version."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.errors import FadeError, RegistryError, RequestError, SignatureError
from fade.governance.leases import ACQUIRED, RECORDED, STAGE, LeaseEvent, LeaseLog
from fade.governance.log_names import REQUEST
from fade.governance.requests import ErasureRequests
from fade.governance.stored_values import parse_number
from fade.governance.witness import Witness
from fade.utils.locks import lock_folder
from tasks.registry.connection import Tracking, registry_errors
from tasks.registry.log_store import LEASE_LOG, TRUST
from tasks.registry.models import all_versions
from tasks.registry.snapshot import RegistrySnapshot
from tasks.registry.trust import Trust

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

_HEARTBEAT = "beat"
"""Tag of a version."""
RECORDING, RECORD_SECONDS = ".recording.lock", 600.0
"""Lock in the runs folder, and how long it is waited for: some hundred requests take a minute."""
_working: set[tuple[str, int]] = set()
"""Log and number of the leases that this process has and whose `heartbeat` has not ended."""
_SOURCE = "fade-request:/event"
"""MLflow demands an address; nothing lies there."""


def log_name(prefix: str, request: str) -> str:
    """``("fade", "panda-1")`` -> ``"fade.request.panda-1"``."""
    return f"{prefix}{REQUEST}{request}"


def read_lease_log(tracking: Tracking, name: str, trust: Trust = TRUST) -> LeaseLog:
    """The lease log ``name`` as the registry has it now. Raises RegistryError, SignatureError."""
    witness = trust.witness_file(tracking).read()
    return _lease_log(name, all_versions(tracking, name), None, trust, witness)


def _lease_log(
    name: str,
    versions: Sequence[ModelVersion],
    model: RegisteredModel | None,
    trust: Trust,
    witness: Witness,
) -> LeaseLog:
    beats = {int(version.version): version.tags.get(_HEARTBEAT, "0") for version in versions}
    try:
        counted, void = LEASE_LOG.read(name, versions, model, trust, witness)
        unordered = [LeaseEvent.parse(one.number, one.text) for one in LEASE_LOG.stored(versions)]
        events = [*counted, *void, *(event for event in unordered if not event.ordered)]
    except RegistryError as error:
        error.what = error.what if name in error.what else f"{name}: {error.what}"
        raise
    held = f"{name}: its tag {_HEARTBEAT}"
    return LeaseLog.of(
        (replace(event, heartbeat=parse_number(beats[event.number], held, stage=STAGE)) for event in events),
        name,
    )


class RequestSnapshot(RegistrySnapshot):
    """The registry at one moment, with lease logs. ``prefix``: that of the concepts' models."""

    def lease_log(self, request: str) -> LeaseLog:
        """The lease log of a request; empty when there is none. Raises RegistryError, SignatureError."""
        name = log_name(self.prefix, request)
        versions = self.versions_of(name)
        return _lease_log(name, versions, self.models.get(name), self.trust, self.witness)

    def recorded_requests(self) -> list[str]:
        """The ids of all requests with a lease log."""
        start = log_name(self.prefix, "")
        return sorted(name.removeprefix(start) for name in self.versions if name.startswith(start))


def record_requests(
    tracking: Tracking, requests: ErasureRequests, prefix: str, by: str, trust: Trust = TRUST
) -> None:
    """Record every request that the registry does not have, or has with other fields: a request that vanishes
    from the file is then shown as missing. One whose log cannot be read is left as it is. Raises
    RegistryError, BusyError."""
    # workers that start together wait for the first one, instead of recording each request once more
    busy = f"the requests are being recorded in {tracking.runs}"
    with lock_folder(tracking.runs, busy, STAGE, name=RECORDING, patience=RECORD_SECONDS):
        snapshot = RequestSnapshot.load(tracking, prefix, trust)
        for request in requests.requests:
            try:
                recorded, content = snapshot.lease_log(request.id).recorded, request.to_json()
            except (RegistryError, SignatureError) as error:
                if not error.tampered:
                    raise
                continue
            if recorded is None or dict(recorded.content) != content:
                _append(tracking, log_name(prefix, request.id), RECORDED, content, by, 0, trust)


@dataclass(frozen=True)
class Lease:
    """A worker's exclusive right to process a request. ``number``: the event that its report will follow."""

    name: str
    """Of the lease log."""
    number: int
    worker: str


def acquire(
    tracking: Tracking,
    name: str,
    after: LeaseLog,
    content: Mapping[str, Any],
    by: str,
    trust: Trust = TRUST,
) -> Lease | None:
    """The lease, behind ``after``'s last event; None when another worker was faster. Raises RegistryError,
    SignatureError."""
    content = {**content, "worker": process_identity()}
    event, counted = _append(tracking, name, ACQUIRED, content, by, after.head, trust)
    if event not in counted:
        return None
    _working.add((name, event.number))
    return Lease(name, event.number, by)


def report(
    tracking: Tracking, lease: Lease, kind: str, content: Mapping[str, Any], trust: Trust = TRUST
) -> None:
    """Append DONE, FAILED or RELEASED. Raises RequestError when another worker has taken the lease over: the
    report is void then."""
    event, counted = _append(tracking, lease.name, kind, content, lease.worker, lease.number, trust)
    if event not in counted:
        raise _taken_over(lease, counted)


def confirm(tracking: Tracking, lease: Lease, trust: Trust = TRUST) -> None:
    """Raises RequestError when another worker has taken the lease over; this one must not register then."""
    log = read_lease_log(tracking, lease.name, trust)
    if log.head != lease.number:
        raise _taken_over(lease, log.events)


def _append(
    tracking: Tracking, name: str, kind: str, content: Mapping[str, Any], by: str, after: int, trust: Trust
) -> tuple[LeaseEvent, list[LeaseEvent]]:
    """As `AppendLog.append`, behind the event of the number ``after``; 0: behind none."""
    event = LeaseEvent(number=0, kind=kind, by=by, at=_now(), content=content)
    last = replace(event, number=after) if after else None  # its number alone counts
    return LEASE_LOG.append(tracking, name, event, last, source=_SOURCE, trust=trust)


def _taken_over(lease: Lease, events: Sequence[LeaseEvent]) -> RequestError:
    by, head = (events[-1].by, events[-1].number) if events else ("somebody", 0)
    what = f"{lease.name}: {by} took over (event {head}) while this worker was silent."
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
        _working.discard((lease.name, lease.number))
        ended.set()
        thread.join(5)


def process_identity() -> dict[str, Any]:
    """This process, in terms that no clock changes: host, boot, process table, process id, and its start in
    ticks since the boot."""
    return {**_machine(), "pid": os.getpid(), "started": _start_ticks(os.getpid())}


def is_abandoned(name: str, lease: LeaseEvent) -> bool:
    """Whether this very process took the lease and no longer works under it: its release was lost, as the
    registry was away."""
    return lease.content.get("worker") == process_identity() and (name, lease.number) not in _working


def has_exited(worker: Any) -> bool | None:
    """Whether the process of a `process_identity` has ended; None when it is not of this machine's process
    table, or no such identity, so that nobody here can know."""
    here = _machine()
    if not isinstance(worker, Mapping) or type(worker.get("pid")) is not int:
        return None
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


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
