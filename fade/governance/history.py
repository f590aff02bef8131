"""History of a model's versions: an append-only log (fade/governance/append_log.py) of their registrations
and re-evaluations. Ours.

A registration binds what people trust of a version (its model, number, adapter, record, tags): tags in the
registry are compared with it and count for nothing by themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fade.errors import RegistryError
from fade.governance.append_log import LogEntry

STAGE = "registry"
REGISTERED, REEVALUATED, STALE = EVENTS = ("registered", "reevaluated", "stale")
"""STALE: the base is another now; ``why`` is empty when it is the version's own again."""
TAMPERED = "do not use it; find out who changed the registry or its artifacts."


@dataclass(frozen=True, kw_only=True)
class VersionEvent(LogEntry):
    """One entry."""

    version: str
    event: str
    content: Mapping[str, Any] = field(default_factory=dict)
    """REGISTERED: ``model`` and ``tags``, tag -> text; REEVALUATED: what the gate reads; STALE: ``why``."""

    KIND, STAGE, ERROR = "history", STAGE, RegistryError
    CHOICES = {"event": EVENTS}  # noqa: RUF012 (a class variable of the base)


@dataclass(frozen=True)
class Binding:
    """The registration of a version, as it was recorded."""

    model: str
    version: str
    tags: Mapping[str, str]

    def check(self, model: str, version: str, tags: Mapping[str, str]) -> None:
        """Raises RegistryError, which names what differs, unless the registry's model, number and tags are
        those of the registration."""
        label = f"{model}/{version}"
        differing = [key for key in self.tags if tags.get(key) != self.tags[key]]
        if (self.model, self.version) != (model, version):
            what = f"{label} was registered as {self.model}/{self.version}."
        elif differing:
            key = differing[0]
            now = tags.get(key, "missing")
            what = f"{label}: its tag {key} is {now[:200]}, it was registered with {self.tags[key][:200]}."
        else:
            return
        raise RegistryError(what, stage=STAGE, action=TAMPERED, tampered=True)


def binding(events: Sequence[VersionEvent], version: str) -> Binding | None:
    """The first registration of a version. Raises RegistryError for one that holds no tags."""
    for event in events:
        if event.event == REGISTERED and event.version == version:
            model, tags = event.content.get("model"), event.content.get("tags")
            if not isinstance(model, str) or not isinstance(tags, dict):
                what = f"history {event.number} is no registration."
                raise RegistryError(what, stage=STAGE, action=TAMPERED, tampered=True)
            return Binding(model, version, {str(key): str(value) for key, value in tags.items()})
    return None


def last(events: Sequence[VersionEvent], version: str, event: str) -> Mapping[str, Any] | None:
    """The content of the last event of a kind about a version."""
    some = (one.content for one in reversed(events) if (one.version, one.event) == (version, event))
    return next(some, None)


def registered_at(events: Sequence[VersionEvent], version: str) -> int:
    """The number of a version's registration; 0 when there is none."""
    some = (one.number for one in events if (one.version, one.event) == (version, REGISTERED))
    return next(some, 0)
