"""All of params.yaml: read, overridden, checked, hashed."""

from __future__ import annotations

from typing import Any, ClassVar

import yaml
from pydantic import Field

from fade.config.bench import BenchConfig
from fade.config.commands import (
    AuditConfig,
    NudityConfig,
    PromotionPolicy,
    PurifyConfig,
    RegisterConfig,
    SigningConfig,
    StylesConfig,
)
from fade.config.method import MethodConfig
from fade.config.pretrain import PretrainConfig
from fade.config.run import (
    AttackConfig,
    ChecksConfig,
    DataConfig,
    EvaluateConfig,
    MeshConfig,
    NeighborhoodConfig,
    SamplerConfig,
    TrainConfig,
)
from fade.config.schedule import ScheduleConfig
from fade.config.section import Section
from fade.utils.hashing import fingerprint

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Params(Section):
    """All of params.yaml."""

    data: DataConfig = DataConfig()
    checks: ChecksConfig = ChecksConfig()
    sampler: SamplerConfig = SamplerConfig()
    neighborhood: NeighborhoodConfig = NeighborhoodConfig()
    mesh: MeshConfig = MeshConfig()
    method: MethodConfig = Field(default_factory=MethodConfig)
    train: TrainConfig = TrainConfig()
    settings: dict[str, tuple[str, ...]] = Field(default={})
    """What a method sets in place of the sections above, under NAME or NAME/VARIANT: as with ``--set``, which
    wins. It wins over the settings that the method brings itself (`fade methods`), and those over the
    sections above."""
    evaluate: EvaluateConfig = EvaluateConfig()
    attack: AttackConfig = AttackConfig()
    bench: BenchConfig = BenchConfig()
    purify: PurifyConfig = PurifyConfig()
    styles: StylesConfig = StylesConfig()
    nudity: NudityConfig = NudityConfig()
    gate: PromotionPolicy = PromotionPolicy()
    register_: RegisterConfig = Field(default=RegisterConfig(), alias="register")
    signing: SigningConfig = SigningConfig()
    audit: AuditConfig = AuditConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    pretrain: PretrainConfig = PretrainConfig()

    NO_PART_OF_A_RUN: ClassVar[frozenset[str]] = frozenset(
        {
            "audit",
            "bench",
            "checks",
            "gate",
            "nudity",
            "pretrain",
            "purify",
            "register_",
            "schedule",
            "settings",
            "signing",
            "styles",
        }
    )
    """Sections that change nothing about what a run trains or judges: they are in no key. (``settings`` and
    ``styles`` act through what they set.)"""

    def recorded(self) -> dict[str, Any]:
        """What a run's record holds: no recipe of the world, no benchmark's plan, gate, key or cron: they lie
        elsewhere.

        What ``settings`` sets is in the values.
        """
        return self.model_dump(
            mode="json",
            by_alias=True,
            exclude={"audit", "bench", "gate", "pretrain", "schedule", "settings", "signing"},
        )

    def sha256(self) -> str:
        """Hash of what is recorded."""
        return fingerprint(self.recorded())


def read_yaml(text: str) -> Any:
    """The content of plain YAML (no objects), by libyaml where PyYAML was built with it: a tenth of the time.
    Raises yaml.YAMLError."""
    return yaml.load(text, Loader=_LOADER)  # noqa: S506 (both are safe loaders)


def as_yaml(params: Params) -> str:
    """The whole configuration as YAML, for the lineage and for ``fade params``."""
    return yaml.safe_dump(params.model_dump(mode="json", by_alias=True), sort_keys=False)
