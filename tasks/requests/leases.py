"""The chain of a request in MLflow: every event is a version of the model PREFIX.request.ID.

MLflow counts versions up and gives no number twice, whoever asks at once, on SQLite, PostgreSQL and through a
server alike; that is all that the chain needs (fade/governance/leases.py), as with decisions. The beat of a
claim is a tag of its version."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.errors import FadeError, RegistryError, RegistryUnreachableError, RequestError
from fade.governance.leases import CLAIM, SEEN, STAGE, Course, Event, replay
from tasks.registry.connection import Tracking, registry_errors
from tasks.registry.models import REQUEST, all_versions, ensure_model

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

_LINK, _BEAT = "event", "beat"
_SOURCE = "fade-request:/event"
"""MLflow wants an address; there is nothing there."""
_TRIES = 6
_DESCRIPTION = (
    "What happened to an erasure request, in order; written by `fade requests run` and the scheduler."
)


def log_name(prefix: str, request: str) -> str:
    """``("fade", "panda-1")`` -> ``"fade.request.panda-1"``."""
    return f"{prefix}{REQUEST}{request}"


def course(tracking: Tracking, name: str) -> Course:
    """What happened so far. Raises RegistryError."""
    return replay(events(all_versions(tracking, name)), name)


def events(versions: list[ModelVersion]) -> list[Event]:
    """The events that versions of one such model are."""
    return [Event.parse(int(v.version), v.tags.get(_LINK, ""), int(v.tags.get(_BEAT, "0"))) for v in versions]


@dataclass(frozen=True)
class Claim:
    """This worker's hold on a request: ``number`` is what everything that it reports follows."""

    name: str
    number: int
    worker: str


def take(tracking: Tracking, name: str, after: Course, content: Mapping[str, Any], by: str) -> Claim | None:
    """Claim a request behind ``after``'s last turn; None when another was faster. Raises RegistryError."""
    made = _append(tracking, name, Event(0, CLAIM, after.head, by, _now(), {**content, "worker": identity()}))
    return Claim(name, made, by) if _counts(tracking, name, made) else None


def report(tracking: Tracking, claim: Claim, kind: str, content: Mapping[str, Any]) -> bool:
    """Say how it ended; False when another worker has taken the claim over, and then it is void."""
    return _counts(
        tracking,
        claim.name,
        _append(tracking, claim.name, Event(0, kind, claim.number, claim.worker, _now(), content)),
    )


def see(tracking: Tracking, name: str, content: Mapping[str, Any], by: str) -> None:
    """Remember how the ledger says a request, so that it is missed when it is gone."""
    _append(tracking, name, Event(0, SEEN, 0, by, _now(), content))


def confirm(tracking: Tracking, claim: Claim) -> None:
    """Raises RequestError when the claim was taken over: whoever did is at work, and this worker must
    register nothing."""
    now = course(tracking, claim.name)
    if now.head != claim.number:
        last = now.turns[-1] if now.turns else None
        what = f"{claim.name}: {last.by if last else 'somebody'} took over (event {now.head}) while this worker was silent."
        raise RequestError(what, stage=STAGE, action="nothing was registered here; see `fade requests`.")


@contextlib.contextmanager
def beating(tracking: Tracking, claim: Claim, every: float) -> Iterator[None]:
    """Count the claim's beat up from a thread of its own while the block runs. A registry that is away is
    asked again."""
    over = threading.Event()

    def beat() -> None:
        count = 0
        while not over.wait(every):
            count += 1
            with contextlib.suppress(FadeError), registry_errors(tracking.address):
                tracking.client.set_model_version_tag(claim.name, str(claim.number), _BEAT, str(count))

    thread = threading.Thread(target=beat, name="beat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(5)


def identity() -> dict[str, Any]:
    """This process, in terms that no clock changes: machine since its boot, process table, process, start in
    ticks."""
    return {"host": socket.gethostname(), **_where(), "pid": os.getpid(), "started": _started(os.getpid())}


def gone(worker: Mapping[str, Any]) -> bool | None:
    """Whether that process has ended; None when it is not of this machine's process table, so that it cannot
    be known."""
    here = {"host": socket.gethostname(), **_where()}
    if not here["boot"] or any(worker.get(key) != value for key, value in here.items()):
        return None
    return _started(int(worker["pid"])) != worker.get("started")


def _where() -> dict[str, str]:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return {"boot": boot, "table": str(Path("/proc/self/ns/pid").readlink())}
    except OSError:
        return {"boot": "", "table": ""}


def _started(pid: int) -> int | None:
    """Ticks between boot and the process's start; None when there is none, or only its remains."""
    try:
        fields = (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        )
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def _append(tracking: Tracking, name: str, event: Event) -> int:
    """Add a link. Many at once make MLflow give up its own search for a free number; then it is asked
    again."""
    for attempt in range(_TRIES):
        try:
            with registry_errors(tracking.address):
                ensure_model(tracking, name, description=_DESCRIPTION)
                made = tracking.client.create_model_version(name, _SOURCE, tags={_LINK: event.to_json()})
            return int(made.version)
        except RegistryUnreachableError:
            raise
        except RegistryError:
            if attempt == _TRIES - 1:
                raise
            time.sleep(random.uniform(0.05, 0.4) * (attempt + 1))
    raise AssertionError("unreachable")


def _counts(tracking: Tracking, name: str, number: int) -> bool:
    return any(one.number == number for one in course(tracking, name).turns)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
