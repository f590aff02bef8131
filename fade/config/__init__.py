"""params.yaml as frozen, typed models. An unknown key is an error that names its nearest valid name."""

from fade.config.bench import BenchConfig as BenchConfig
from fade.config.commands import PromotionPolicy as PromotionPolicy
from fade.config.commands import PurifyConfig as PurifyConfig
from fade.config.commands import RegisterConfig as RegisterConfig
from fade.config.commands import ScheduleConfig as ScheduleConfig
from fade.config.commands import SigningConfig as SigningConfig
from fade.config.method import MethodConfig as MethodConfig
from fade.config.params import Params as Params
from fade.config.pretrain import AutoencoderConfig as AutoencoderConfig
from fade.config.pretrain import ClipConfig as ClipConfig
from fade.config.pretrain import FitConfig as FitConfig
from fade.config.pretrain import JudgeConfig as JudgeConfig
from fade.config.pretrain import PretrainConfig as PretrainConfig
from fade.config.pretrain import SightConfig as SightConfig
from fade.config.pretrain import UnetConfig as UnetConfig
from fade.config.run import AttackConfig as AttackConfig
from fade.config.run import ChecksConfig as ChecksConfig
from fade.config.run import DataConfig as DataConfig
from fade.config.run import EvaluateConfig as EvaluateConfig
from fade.config.run import MeshConfig as MeshConfig
from fade.config.run import ModelConfig as ModelConfig
from fade.config.run import NeighborhoodConfig as NeighborhoodConfig
from fade.config.run import SamplerConfig as SamplerConfig
from fade.config.run import TrainConfig as TrainConfig
from fade.config.section import Affects as Affects
from fade.config.section import Section as Section
