"""params.yaml as frozen, typed models. An unknown key is an error that names the key and its nearest valid
name."""

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
from fade.config.method import MethodConfig, MethodOptions
from fade.config.params import Params, as_yaml, read_yaml
from fade.config.pretrain import (
    AutoencoderConfig,
    ClipConfig,
    FitConfig,
    JudgeConfig,
    PretrainConfig,
    SightConfig,
    UnetConfig,
)
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

__all__ = [
    "AttackConfig",
    "AuditConfig",
    "AutoencoderConfig",
    "BenchConfig",
    "ChecksConfig",
    "ClipConfig",
    "DataConfig",
    "EvaluateConfig",
    "FitConfig",
    "JudgeConfig",
    "MeshConfig",
    "MethodConfig",
    "MethodOptions",
    "NeighborhoodConfig",
    "NudityConfig",
    "Params",
    "PretrainConfig",
    "PromotionPolicy",
    "PurifyConfig",
    "RegisterConfig",
    "SamplerConfig",
    "ScheduleConfig",
    "Section",
    "SightConfig",
    "SigningConfig",
    "StylesConfig",
    "TrainConfig",
    "UnetConfig",
    "as_yaml",
    "fingerprint",
    "read_yaml",
]
