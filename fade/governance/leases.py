"""What happened to a request, as a chain of turns that no two workers can take at once. Ours.

A turn names the one before it. Numbers come from a store that gives each only once; of two turns that name
the same one before them the lower number counts and the other is void, whoever was faster, and everybody sees
the same. So a claim is exclusive, and what a worker reports after another has taken its claim over is void.
No clock has a say: times are told, never compared."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fade.errors import RegistryError
from fade.utils.hashing import canonical

SCHEMA = 1
STAGE = "requests"
CLAIM, DONE, FAILED, RELEASED, SEEN = KINDS = ("claim", "done", "failed", "released", "seen")


@dataclass(frozen=True)
class Event:
    """One link. ``number``: its place in the store."""

    number: int
    kind: str
    after: int
    """The turn before it; what was SEEN in the ledger is no turn and has 0."""
    by: str
    at: str
    """UTC, ISO 8601. Told, never compared."""
    content: Mapping[str, Any] = field(default_factory=dict)
    beat: int = 0
    """Of a claim: counted up by its worker while it lives; no part of the link."""

    def to_json(self) -> str:
        """All but the store's number and the beat."""
        said = {
            "kind": self.kind,
            "after": self.after,
            "by": self.by,
            "at": self.at,
            "content": dict(self.content),
        }
        return canonical({"schema": SCHEMA, **said})

    @classmethod
    def parse(cls, number: int, text: str, beat: int = 0) -> Event:
        """Raises RegistryError for what is no event of this schema."""
        try:
            said = json.loads(text)
            if said.pop("schema") != SCHEMA or said["kind"] not in KINDS:
                raise ValueError("another schema or kind")
            return cls(number, beat=beat, **said)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            what = f"event {number} of a request cannot be read: {error}."
            raise RegistryError(what, stage=STAGE, action="find out who changed the registry.") from None


@dataclass(frozen=True)
class Course:
    """What the chain says now."""

    turns: Sequence[Event] = ()
    """Those that count, in order."""
    void: Sequence[Event] = ()
    seen: Event | None = None
    """How the ledger last said it."""

    @property
    def head(self) -> int:
        """Number of the last turn; 0 when there is none."""
        return self.turns[-1].number if self.turns else 0

    @property
    def claim(self) -> Event | None:
        """The claim under which somebody works, or died."""
        return self.turns[-1] if self.turns and self.turns[-1].kind == CLAIM else None

    @property
    def outcome(self) -> Event | None:
        """The last DONE or FAILED."""
        return next((one for one in reversed(self.turns) if one.kind in (DONE, FAILED)), None)

    def failures(self, fingerprint: str, params_sha256: str) -> int:
        """How often it failed in a row, or its worker died, under these terms and parameters."""
        count = 0
        for one, later in zip(reversed(self.turns), [None, *reversed(self.turns)], strict=False):
            if (
                one.kind == DONE
                or one.content.get("fingerprint") != fingerprint
                or one.content.get("params_sha256") != params_sha256
            ):
                break
            died = one.kind == CLAIM and later is not None and later.kind == CLAIM
            count += one.kind == FAILED or died
        return count


def replay(events: Sequence[Event], name: str = "request") -> Course:
    """The chain from its beginning. Raises RegistryError when a turn that others follow is missing."""
    turns: list[Event] = []
    void: list[Event] = []
    seen: Event | None = None
    numbers = {one.number for one in events}
    for one in sorted(events, key=lambda event: event.number):
        if one.kind == SEEN:
            seen = one
            continue
        head = turns[-1].number if turns else 0
        if one.after > head and one.after not in numbers:
            what = f"{name}: event {one.after} is missing, {one.number} follows it."
            raise RegistryError(
                what,
                stage=STAGE,
                action="find out who changed the registry; until then it is not worked off.",
            )
        (turns if one.after == head else void).append(one)
    return Course(tuple(turns), tuple(void), seen)


class Watch:
    """Tells a dead worker from a living one by its beat, measured with this process's own steady clock."""

    def __init__(self, lease: float) -> None:
        self.lease = lease
        self._seen: dict[tuple[str, int], tuple[int, float]] = {}

    def look(self, name: str, claim: Event, now: float) -> str:
        """``"alive"``: its beat moved while we looked; ``"dead"``: it stood still for the lease;
        ``"unknown"`` so far."""
        key = (name, claim.number)
        if key not in self._seen:
            self._seen[key] = (claim.beat, now)
            return "unknown"
        beat, since = self._seen[key]
        if claim.beat != beat:
            self._seen[key] = (claim.beat, now)
            return "alive"
        return "dead" if now - since >= self.lease else "unknown"
