"""The registry at one moment: versions, aliases and logs of one read."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, TypeVar

from fade.errors import FadeError, RegistryError, SignatureError
from fade.governance import history
from fade.governance.append_log import LogEntry
from fade.governance.history import Binding, VersionEvent
from fade.governance.log_names import DECISIONS, HISTORY, is_log, log_kind, subject
from fade.governance.promotion import REVOKE, REVOKED, Decision, Standing, replay
from fade.governance.release_plan import NAME as RELEASE
from fade.governance.witness import Witness
from tasks.registry.connection import Tracking
from tasks.registry.log_store import DECISION_LOG, HISTORY_LOG, TRUST, AppendLog
from tasks.registry.models import search_models, search_versions
from tasks.registry.trust import Trust

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

E = TypeVar("E", bound=LogEntry)


@dataclass
class RegistrySnapshot:
    """The models whose names begin with ``prefix``; any other model is read once, when it is first needed."""

    tracking: Tracking
    prefix: str
    trust: Trust = TRUST
    """What logs and versions are verified against."""
    witness: Witness = field(default=Witness(), repr=False)
    """As it was before the first read."""
    versions: dict[str, list[ModelVersion]] = field(default_factory=dict, repr=False)
    """Model -> its versions, newest first."""
    models: dict[str, RegisteredModel] = field(default_factory=dict, repr=False)
    """Model -> its aliases and tags."""
    _read: list[str] = field(default_factory=list, repr=False)
    _standings: dict[str, Standing] = field(default_factory=dict, repr=False)
    _histories: dict[str, list[VersionEvent]] = field(default_factory=dict, repr=False)
    _revoked: dict[str, str] | None = field(default=None, repr=False)

    @classmethod
    def load(cls, tracking: Tracking, prefix: str = "", trust: Trust = TRUST) -> Self:
        """Read every model whose name begins with ``prefix`` (empty: all). Raises RegistryError, ConfigError
        (a witness that cannot be read), SignatureError (no such public key)."""
        _ = trust.keyring
        # before the store: an entry that is appended meanwhile is not missed
        snapshot = cls(tracking, prefix, trust, trust.witness_file(tracking).read())
        snapshot._extend(prefix)
        return snapshot

    @classmethod
    def load_model(cls, tracking: Tracking, name: str, trust: Trust = TRUST) -> Self:
        """Read one model and its logs; of a release the models of its parts, too. Raises as `load`."""
        return cls.load(tracking, name.removesuffix(f".{RELEASE}"), trust)

    def reload(self) -> Self:
        """The same models as they are now."""
        return type(self).load(self.tracking, self.prefix, self.trust)

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
        self.versions_of(subject(log))  # a model and its logs in one read
        return kind.read(log, self.versions_of(log), self.models.get(log), self.trust, self.witness)

    def standing(self, name: str) -> Standing:
        """What was decided about a model. Raises PromotionError for an untrusted log, SignatureError."""
        if name not in self._standings:
            counted, void = self.read_log(DECISION_LOG, f"{name}{DECISIONS}")
            self._standings[name] = replay([*counted, *void])
        return self._standings[name]

    def history(self, name: str) -> list[VersionEvent]:
        """Registrations and re-evaluations of a model's versions. Raises RegistryError for an untrusted log,
        SignatureError."""
        if name not in self._histories:
            self._histories[name], _ = self.read_log(HISTORY_LOG, f"{name}{HISTORY}")
        return self._histories[name]

    def binding(self, version: ModelVersion) -> Binding | None:
        """The registration of a version, with which its model, number and tags agree; None for a version
        from before registrations were recorded, when the team has no key.

        Raises RegistryError (something differs), SignatureError (a version without one)."""
        name, number = str(version.name), str(version.version)
        bound = history.binding(self.history(name), number)
        if bound is not None:
            bound.check(name, number, version.tags)
        elif self.trust.public_key:
            what = f"{name}/{number} has no signed registration."
            action = f"if it is the team's, `fade keys adopt {name}`; else do not use it."
            raise SignatureError(what, stage="registry", action=action, tampered=True)
        return bound

    def last_event(self, version: ModelVersion, event: str, tag: str) -> str | Mapping[str, Any] | None:
        """The content of a version's last event of a kind; without any, and without a key of the team, the
        text of ``tag``, as versions before the history have it."""
        events = self.history(str(version.name))
        if (content := history.last(events, str(version.version), event)) is not None:
            return content
        return None if self.trust.public_key else version.tags.get(tag)

    @property
    def revoked_adapters(self) -> Mapping[str, str]:
        """sha256 of every revoked adapter -> the version, ``NAME/VERSION``, as which it was revoked: by the
        decisions about all models, and by the witness."""
        if self._revoked is None:
            if "" not in self._read:
                self._extend("", f"%{DECISIONS}")
            logs = [name for name in self.versions if log_kind(name) == DECISIONS]
            some = [(subject(log), one) for log in logs for one in self._decisions(log)]
            labels = {f"{name}/{one.version}": one.revokes for name, one in some if one.action == REVOKE}
            # a revocation from before they were of bytes names the version alone
            revoked = {sha256 or self._adapter_of(label): label for label, sha256 in labels.items()}
            self._revoked = {key: label for key, label in revoked.items() if key} | {**self.witness.revoked}
        return self._revoked

    def _adapter_of(self, label: str) -> str:
        """sha256 of a version's adapter by its tag, as far as the version was read."""
        name, _, number = label.rpartition("/")
        tags = (one.tags for one in self.versions.get(name, []) if str(one.version) == number)
        return str(next(tags, {}).get("adapter_sha256", ""))

    def _decisions(self, log: str) -> list[Decision]:
        """The decisions of a log that count; of a log that cannot be trusted all that can be read and, with a
        key, are signed: an edit elsewhere in it must not hide a revocation."""
        stored = DECISION_LOG.stored(self.versions[log])
        try:
            return DECISION_LOG.read(log, self.versions[log], self.models.get(log), self.trust, self.witness)[
                0
            ]
        except FadeError:
            readable: list[Decision] = []
            for one in stored:
                with contextlib.suppress(FadeError):
                    if self.trust.verify is not None:
                        self.trust.verify(log, Decision.KIND, one)
                    readable.append(Decision.parse(one.number, one.text))
            return readable

    def revoked_as(self, version: ModelVersion) -> str:
        """The version as which this one, or its adapter's bytes, was revoked; else empty. Raises
        PromotionError for an untrusted log of decisions."""
        label = f"{version.name}/{version.version}"
        if self.standing(str(version.name)).states.get(str(version.version)) == REVOKED:
            return label
        return self.revoked_adapters.get(version.tags.get("adapter_sha256", ""), "")

    def champion(self, name: str) -> ModelVersion | None:
        """The champion of the model ``name`` by the decisions, whatever the alias says."""
        number = self.standing(name).champion
        return None if number is None else self.version(f"{name}/{number}")

    def decided(self) -> list[str]:
        """Every model of the snapshot about which something was decided, also where the registry has lost the
        decisions; releases among them."""
        logs = {*self.versions, *self.witness.heads}
        decided = sorted(subject(log) for log in logs if log_kind(log) == DECISIONS)
        return [name for name in decided if name.startswith(self.prefix)]

    def decided_concepts(self) -> list[str]:
        """Those of `decided` that are a concept's model."""
        return [name for name in self.decided() if name.startswith(f"{self.prefix}-")]

    def champions(self) -> list[ModelVersion]:
        """The champion of every concept's model, by name. Raises PromotionError, RegistryError, also for a
        champion that the registry has no more: its concept would be left out in silence."""
        champions = {name: self.champion(name) for name in self.decided_concepts()}
        for name, version in champions.items():
            if version is None and (number := self.standing(name).champion):
                what = f"{name}/{number} is the champion by the decisions, and the registry has it no more."
                action = f"restore it from a backup, or promote another version of {name}."
                raise RegistryError(what, stage="registry", action=action, tampered=True)
        return [version for version in champions.values() if version]

    def _extend(self, prefix: str, pattern: str = "") -> None:
        """Read the models whose names begin with ``prefix``, or are like ``pattern``."""
        # Other characters have a meaning in a filter; `_` stands for any one of them.
        pattern = pattern or re.sub(r"[^\w. -]", "_", prefix) + "%"
        filter_string = f"name LIKE '{pattern}'" if pattern != "%" else None
        known = {*self.versions, *self.models}
        # Anchors before entries: an entry that is appended meanwhile is not missed.
        for model in search_models(self.tracking, filter_string):
            if model.name.startswith(prefix) and model.name not in known:
                self.models[str(model.name)] = model
        for version in search_versions(self.tracking, filter_string):
            if version.name.startswith(prefix) and version.name not in known:
                self.versions.setdefault(str(version.name), []).append(version)
        if prefix or pattern == "%":
            self._read.append(prefix)
