"""All versions of the registry at one moment: one read for everything that a command derives from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fade.governance.leases import LeaseLog
from fade.governance.promotion import Standing
from tasks.registry.decision_log import REQUEST, SUFFIX, standing
from tasks.registry.tracking import Tracking, all_versions
from tasks.requests.leases import lease_log, log_name

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


@dataclass(frozen=True)
class RegistrySnapshot:
    """Every version, by model."""

    tracking: Tracking
    prefix: str
    versions: Mapping[str, list[ModelVersion]]
    """Model -> its versions, newest first."""
    _standings: dict[str, Standing] = field(default_factory=dict, repr=False)

    @classmethod
    def load(cls, tracking: Tracking, prefix: str) -> RegistrySnapshot:
        """Read all versions; ``prefix``: that of the concepts' models. Raises RegistryError."""
        versions: dict[str, list[ModelVersion]] = {}
        for version in all_versions(tracking):
            versions.setdefault(str(version.name), []).append(version)
        return cls(tracking, prefix, versions)

    def lease_log(self, request: str) -> LeaseLog:
        """The lease log of a request; empty when there is none."""
        name = log_name(self.prefix, request)
        return lease_log(self.versions.get(name, []), name)

    def recorded_requests(self) -> list[str]:
        """The ids of all requests with a lease log."""
        start = f"{self.prefix}{REQUEST}"
        return sorted(name.removeprefix(start) for name in self.versions if name.startswith(start))

    def version(self, label: str) -> ModelVersion | None:
        """``NAME/NUMBER``, or None when the registry has no such version."""
        name, _, number = label.rpartition("/")
        return next((one for one in self.versions.get(name, []) if str(one.version) == number), None)

    def standing(self, name: str) -> Standing:
        """The decisions about the model ``name``, read once. Raises PromotionError for a broken log."""
        if name not in self._standings:
            self._standings[name] = standing(self.tracking, name)
        return self._standings[name]

    def champions(self) -> list[ModelVersion]:
        """The champion of every concept's model, by the decisions. Raises PromotionError, RegistryError."""
        decided = [
            name
            for name in sorted(self.versions)
            if name.startswith(f"{self.prefix}-") and f"{name}{SUFFIX}" in self.versions
        ]
        versions = (self.version(f"{name}/{self.standing(name).champion}") for name in decided)
        return [version for version in versions if version is not None]
