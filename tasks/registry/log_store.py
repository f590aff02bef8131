"""A chain (fade/governance/append_log.py) in MLflow: every link is a version of the model NAME.SUFFIX.

MLflow counts versions up and gives no number twice, whoever asks at once, on SQLite, PostgreSQL and through a
server alike; that is all that a chain needs. A tag of the model itself names the last link, so that cutting
it off is seen, too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, TypeVar

from fade.governance.append_log import LogEntry, untrusted, verify_log
from tasks.registry.tracking import Tracking, all_versions, ensure_model, faults

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

L = TypeVar("L", bound=LogEntry)
_HEAD = "head"


@dataclass(frozen=True)
class Log(Generic[L]):
    """Where chains of one kind lie."""

    suffix: str
    kind: type[L]
    description: str

    def read(self, tracking: Tracking, name: str) -> tuple[list[L], list[L]]:
        """As `fade.governance.append_log.verify_log`, of the chain about the model ``name``; raises its error,
        for a chain that was cut at its end, too."""
        links = [
            self.kind.parse(int(v.version), v.tags.get(self.kind.KIND, ""))
            for v in all_versions(tracking, name + self.suffix)
        ]
        counted, void = verify_log(links)
        head = self._head(tracking, name) if links else None
        if head is not None and not any(one.anchor == head for one in counted):
            raise untrusted(
                self.kind, f"{name}: {self.kind.KIND} {head.split(':')[0]} was edited, or is missing."
            )
        return counted, void

    def add(
        self,
        tracking: Tracking,
        about: ModelVersion,
        link: L,
        after: L | None,
        lost: Callable[[L, L], Exception],
    ) -> L:
        """Put a link behind ``after``; it comes back with its number.

        When another came first the link is void, nothing was changed, and ``lost(the first, ours)`` is
        raised."""
        name = str(about.name)
        number, digest = (after.number, after.sha256()) if after else (0, "")
        link = replace(link, previous=number, previous_sha256=digest)
        with faults(tracking.address):
            ensure_model(tracking, name + self.suffix, description=self.description)
            # Named as a version: a server lets no one point at a logged model's folder without its id, which
            # a version does not keep.
            source, tags = f"models:/{name}/{about.version}", {self.kind.KIND: link.to_json()}
            made = tracking.client.create_model_version(name + self.suffix, source, about.run_id, tags=tags)
        link = replace(link, number=int(made.version))
        counted, _ = self.read(tracking, name)
        if link not in counted:
            raise lost(next(one for one in counted if one.previous == number), link)
        with faults(tracking.address):
            tracking.client.set_registered_model_tag(name + self.suffix, _HEAD, counted[-1].anchor)
        return link

    def _head(self, tracking: Tracking, name: str) -> str | None:
        with faults(tracking.address):
            tags: dict[str, str] = tracking.client.get_registered_model(name + self.suffix).tags
        return tags.get(_HEAD)
