"""The registry at one moment: versions, aliases and logs of one read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self, TypeVar

from fade.governance.append_log import LogEntry
from fade.governance.promotion import Standing, replay
from fade.governance.release_plan import NAME as RELEASE
from tasks.registry.connection import Tracking
from tasks.registry.log_store import DECISION_LOG, AppendLog
from tasks.registry.models import DECISIONS, is_log, log_subject, search_models, search_versions

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

E = TypeVar("E", bound=LogEntry)


@dataclass
class RegistrySnapshot:
    """The models whose names begin with ``prefix``; any other model is read once, when it is first needed."""

    tracking: Tracking
    prefix: str
    public_key: str = ""
    """PEM file: signatures of log entries are verified. Empty: they are not."""
    versions: dict[str, list[ModelVersion]] = field(default_factory=dict, repr=False)
    """Model -> its versions, newest first."""
    models: dict[str, RegisteredModel] = field(default_factory=dict, repr=False)
    """Model -> its aliases and tags."""
    _read: list[str] = field(default_factory=list, repr=False)
    _standings: dict[str, Standing] = field(default_factory=dict, repr=False)

    @classmethod
    def load(cls, tracking: Tracking, prefix: str = "", public_key: str = "") -> Self:
        """Read every model whose name begins with ``prefix`` (empty: all). Raises RegistryError."""
        snapshot = cls(tracking, prefix, public_key)
        snapshot._extend(prefix)
        return snapshot

    @classmethod
    def load_model(cls, tracking: Tracking, name: str, public_key: str = "") -> Self:
        """Read one model and its logs; of a release the models of its parts, too. Raises RegistryError."""
        return cls.load(tracking, name.removesuffix(f".{RELEASE}"), public_key)

    def reload(self) -> Self:
        """The same models as they are now."""
        return type(self).load(self.tracking, self.prefix, self.public_key)

    def versions_of(self, name: str) -> list[ModelVersion]:
        """The versions of a model, newest first; empty when there is none."""
        if not name.startswith(tuple(self._read)):
            self._extend(name)
        return self.versions.get(name, [])

    def version(self, label: str) -> ModelVersion | None:
        """``NAME/NUMBER``, or None when the registry has no such version."""
        name, _, number = label.rpartition("/")
        return next((one for one in self.versions_of(name) if str(one.version) == number), None)

    def adapters(self) -> list[ModelVersion]:
        """Every version that is no entry of a log, by name and number."""
        names = sorted(name for name in self.versions if not is_log(name))
        return [version for name in names for version in reversed(self.versions[name])]

    def aliases(self, name: str) -> Mapping[str, str]:
        """MLflow's aliases of a model: alias -> number."""
        self.versions_of(name)
        model = self.models.get(name)
        return {alias: str(number) for alias, number in model.aliases.items()} if model else {}

    def read_log(self, kind: AppendLog[E], log: str) -> tuple[list[E], list[E]]:
        """As `AppendLog.read`."""
        self.versions_of(log_subject(log))  # a model and its logs in one read
        return kind.read(log, self.versions_of(log), self.models.get(log), self.public_key)

    def standing(self, name: str) -> Standing:
        """What was decided about a model. Raises PromotionError for an untrusted log, SignatureError."""
        if name not in self._standings:
            counted, void = self.read_log(DECISION_LOG, f"{name}{DECISIONS}")
            self._standings[name] = replay([*counted, *void])
        return self._standings[name]

    def champion(self, name: str) -> ModelVersion | None:
        """The champion of the model ``name`` by the decisions, whatever the alias says."""
        number = self.standing(name).champion
        return None if number is None else self.version(f"{name}/{number}")

    def champions(self) -> list[ModelVersion]:
        """The champion of every concept's model, by name. Raises PromotionError, RegistryError."""
        return [one for one in self.all_champions() if one.name.startswith(f"{self.prefix}-")]

    def all_champions(self) -> list[ModelVersion]:
        """The champion of every model of the snapshot, by name; releases among them."""
        decided = [name for name in sorted(self.versions) if f"{name}{DECISIONS}" in self.versions]
        return [version for name in decided if (version := self.champion(name))]

    def _extend(self, prefix: str) -> None:
        # Other characters have a meaning in a filter; `_` stands for any one of them.
        pattern = re.sub(r"[^\w. -]", "_", prefix)
        filter_string = f"name LIKE '{pattern}%'" if prefix else None
        # Anchors before entries: an entry that is appended meanwhile is not missed.
        for model in search_models(self.tracking, filter_string):
            if model.name.startswith(prefix):
                self.models[str(model.name)] = model
        for version in search_versions(self.tracking, filter_string):
            if version.name.startswith(prefix):
                self.versions.setdefault(str(version.name), []).append(version)
        self._read.append(prefix)
