"""Lease log of one erasure request, by the rules of fade/governance/append_log.py. Ours.

A lease is exclusive, as of two events with the same predecessor the lower number counts; a report is void
when another worker has taken the lease over. Timestamps are informational only: no clock is compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fade.errors import RegistryError
from fade.governance.append_log import LogEntry, verify_log

STAGE = "requests"
ACQUIRED, DONE, FAILED, RELEASED, RECORDED = KINDS = ("claim", "done", "failed", "released", "seen")
"""Kinds as the registry stores them. RECORDED: the request's text as requests.yaml had it."""


@dataclass(frozen=True, kw_only=True)
class LeaseEvent(LogEntry):
    """One event."""

    kind: str
    content: Mapping[str, Any] = field(default_factory=dict)
    heartbeat: int = 0
    """Of ACQUIRED: a counter that its worker raises while it lives; not in the event's text."""

    KIND, STAGE, ERROR, HASHED = "event", STAGE, RegistryError, False
    ACTION = "find out who changed the registry; until then it is not worked off."
    CHOICES, KEYS = {"kind": KINDS}, {"previous": "after"}
    UNWRITTEN = ("number", "previous_sha256", "heartbeat")

    @property
    def ordered(self) -> bool:
        return self.kind != RECORDED

    @property
    def witnessed(self) -> bool:
        return self.kind == DONE


@dataclass(frozen=True)
class LeaseLog:
    """The events of one request that count, in order."""

    events: Sequence[LeaseEvent] = ()
    void: Sequence[LeaseEvent] = ()
    """Events whose predecessor another event with a lower number has."""
    recorded: LeaseEvent | None = None
    """The last RECORDED event."""

    @classmethod
    def of(cls, events: Iterable[LeaseEvent], name: str = "request") -> LeaseLog:
        """Order the events of the log ``name``. Raises RegistryError, which names the log, when one is
        missing or cannot be read."""
        try:
            every = list(events)
            counted, void = verify_log(every)
        except RegistryError as error:
            what = f"{name}: {error.what}"
            raise RegistryError(
                what, stage=error.stage, action=error.action, tampered=error.tampered
            ) from None
        unordered = [event for event in every if not event.ordered]
        recorded = max(unordered, key=lambda event: event.number, default=None)
        return cls(tuple(counted), tuple(void), recorded)

    @property
    def head(self) -> int:
        """Number of the last event; 0 when there is none."""
        return self.events[-1].number if self.events else 0

    @property
    def lease(self) -> LeaseEvent | None:
        """The ACQUIRED event that no report ended: its worker is at work, or died."""
        return self.events[-1] if self.events and self.events[-1].kind == ACQUIRED else None

    @property
    def outcome(self) -> LeaseEvent | None:
        """The last DONE or FAILED."""
        return self._last(DONE, FAILED)

    @property
    def version(self) -> str:
        """``NAME/NUMBER`` of the last DONE; empty when there is none."""
        done = self._last(DONE)
        return str(done.content.get("version", "")) if done else ""

    def _last(self, *kinds: str) -> LeaseEvent | None:
        return next((event for event in reversed(self.events) if event.kind in kinds), None)

    def failures(self, fingerprint: str, params_sha256: str) -> int:
        """Consecutive failures, deaths of a worker included, under these terms and parameters."""
        count = 0
        successor: LeaseEvent | None = None
        for event in reversed(self.events):
            terms = (event.content.get("fingerprint"), event.content.get("params_sha256"))
            if event.kind == DONE or terms != (fingerprint, params_sha256):
                break
            died = event.kind == ACQUIRED and successor is not None and successor.kind == ACQUIRED
            count += event.kind == FAILED or died
            successor = event
        return count


class HeartbeatMonitor:
    """Tells a dead worker from a living one by its heartbeat, timed with this process's monotonic clock."""

    def __init__(self, lease_seconds: float) -> None:
        self.lease_seconds = lease_seconds
        self._last: dict[tuple[str, int], tuple[int, float]] = {}

    def observe(self, name: str, lease: LeaseEvent, now: float) -> str:
        """``"alive"``: the heartbeat of the lease in the log ``name`` moved since the last call; ``"dead"``:
        it stood still for ``lease_seconds``; else ``"unknown"``. now: seconds, monotonic."""
        key = (name, lease.number)
        heartbeat, since = self._last.setdefault(key, (lease.heartbeat, now))
        if lease.heartbeat != heartbeat:
            self._last[key] = (lease.heartbeat, now)
            return "alive"
        return "dead" if now - since >= self.lease_seconds else "unknown"
