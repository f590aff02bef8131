"""Lease log of one erasure request. Ours.

Optimistic concurrency: each event names its predecessor, and the store gives each number only once. Of two
events with the same predecessor the lower number counts, and every reader decides alike. A lease is therefore
exclusive, and a report is void when another worker has taken the lease over. Timestamps are informational
only: no clock is compared."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fade.errors import RegistryError
from fade.utils.hashing import canonical

SCHEMA = 1
STAGE = "requests"
ACQUIRED, DONE, FAILED, RELEASED, RECORDED = KINDS = ("claim", "done", "failed", "released", "seen")
"""Kinds as the registry stores them. RECORDED: the request's text as requests.yaml had it."""


@dataclass(frozen=True)
class LeaseEvent:
    """One event. ``number``: its version number in the store."""

    number: int
    kind: str
    after: int
    """Number of the predecessor; 0 for the first event and for RECORDED, which takes no part in the order."""
    by: str
    at: str
    """UTC, ISO 8601; informational only."""
    content: Mapping[str, Any] = field(default_factory=dict)
    heartbeat: int = 0
    """Of ACQUIRED: a counter that its worker raises while it lives; not in the event's text."""

    def to_json(self) -> str:
        """The event's text: everything but ``number`` and ``heartbeat``."""
        fields = {"kind": self.kind, "after": self.after, "by": self.by, "at": self.at}
        return canonical({"schema": SCHEMA, **fields, "content": dict(self.content)})

    @classmethod
    def parse(cls, number: int, text: str, heartbeat: int = 0) -> LeaseEvent:
        """Raises RegistryError for a text that is no event of this schema."""
        try:
            fields = json.loads(text)
            if fields.pop("schema") != SCHEMA or fields["kind"] not in KINDS:
                raise ValueError("another schema or kind")
            return cls(number, heartbeat=heartbeat, **fields)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            what = f"event {number} of a request cannot be read: {error}."
            raise RegistryError(what, stage=STAGE, action="find out who changed the registry.") from None


@dataclass(frozen=True)
class LeaseLog:
    """The events of one request that count, in order."""

    events: Sequence[LeaseEvent] = ()
    void: Sequence[LeaseEvent] = ()
    """Events whose predecessor another event with a lower number has."""
    recorded: LeaseEvent | None = None
    """The last RECORDED event."""

    @classmethod
    def of(cls, events: Sequence[LeaseEvent], name: str = "request") -> LeaseLog:
        """Order the events of the log ``name``. Raises RegistryError when a predecessor is missing."""
        valid: list[LeaseEvent] = []
        void: list[LeaseEvent] = []
        recorded: LeaseEvent | None = None
        numbers = {event.number for event in events}
        for event in sorted(events, key=lambda event: event.number):
            if event.kind == RECORDED:
                recorded = event
                continue
            head = valid[-1].number if valid else 0
            if event.after > head and event.after not in numbers:
                what = f"{name}: event {event.after} is missing, {event.number} follows it."
                action = "find out who changed the registry; until then it is not worked off."
                raise RegistryError(what, stage=STAGE, action=action)
            (valid if event.after == head else void).append(event)
        return cls(tuple(valid), tuple(void), recorded)

    @property
    def head(self) -> int:
        """Number of the last event; 0 when there is none."""
        return self.events[-1].number if self.events else 0

    def counts(self, number: int) -> bool:
        """Whether the event with this number is not void."""
        return any(event.number == number for event in self.events)

    @property
    def lease(self) -> LeaseEvent | None:
        """The ACQUIRED event that no report ended: its worker is at work, or died."""
        return self.events[-1] if self.events and self.events[-1].kind == ACQUIRED else None

    @property
    def outcome(self) -> LeaseEvent | None:
        """The last DONE or FAILED."""
        return next((event for event in reversed(self.events) if event.kind in (DONE, FAILED)), None)

    @property
    def version(self) -> str:
        """``NAME/NUMBER`` of the last DONE; empty when there is none."""
        done = next((event for event in reversed(self.events) if event.kind == DONE), None)
        return str(done.content["version"]) if done else ""

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
