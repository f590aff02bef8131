"""All of params.yaml: read, overridden, checked, hashed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import yaml
from pydantic import BaseModel, Field, ValidationError

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
from fade.config.pretrain import PretrainConfig
from fade.config.run import (
    AttackConfig,
    ChecksConfig,
    DataConfig,
    EvaluateConfig,
    MeshConfig,
    MethodConfig,
    NeighborhoodConfig,
    SamplerConfig,
    TrainConfig,
)
from fade.config.schedule import ScheduleConfig
from fade.config.section import Section
from fade.errors import ConfigError
from fade.utils.hashing import fingerprint

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Params(Section):
    """All of params.yaml."""

    data: DataConfig = DataConfig()
    checks: ChecksConfig = ChecksConfig()
    sampler: SamplerConfig = SamplerConfig()
    neighborhood: NeighborhoodConfig = NeighborhoodConfig()
    mesh: MeshConfig = MeshConfig()
    method: MethodConfig = MethodConfig()
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


def load_params(path: Path = Path("params.yaml"), overrides: Sequence[str] = ()) -> Params:
    """Read params.yaml and apply ``section.key=value`` overrides (values are YAML).

    Raises ConfigError for a missing or malformed file, an unknown key (its nearest valid name is offered), a
    wrong type or a value out of range."""
    try:
        raw = read_yaml(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        action = "run in the project's folder, or name the file with --params."
        raise ConfigError(f"{path} does not exist.", stage="config", action=action) from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(
            f"{path} cannot be read: {error}.", stage="config", action="mend the file."
        ) from None
    if not isinstance(raw, dict):
        raise ConfigError(
            f"{path} holds no mapping.", stage="config", action="start from the shipped params.yaml."
        )
    for item in overrides:
        _override(raw, item)
    return parse_params(raw, str(path))


def parse_params(raw: Mapping[str, Any], origin: str = "params") -> Params:
    """Validate a mapping. Raises ConfigError that names the first bad key, why, and the nearest valid
    name."""
    _known_keys(raw, Params, (), origin)
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "(top)"
        reason = first["msg"].removeprefix("Value error, ")
        what = f"{origin}: {key} = {first.get('input')!r}: {reason}."
        raise ConfigError(what, stage="config", action=f"correct {key}.") from None


def _override(raw: dict[str, Any], item: str) -> None:
    key, sep, text = item.partition("=")
    parts = key.strip().split(".")
    if not sep or not all(parts):
        raise ConfigError(
            f"{item!r} is no section.key=value.", stage="config", action="write --set train.steps=200."
        )
    try:
        value = read_yaml(text)
    except yaml.YAMLError:
        raise ConfigError(
            f"the value of {key} cannot be read: {text!r}.", stage="config", action="quote it."
        ) from None
    if isinstance(value, str) and re.fullmatch(
        r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+", value
    ):  # YAML 1.1 reads 3e-3 as text
        value = float(value)
    node = raw
    for part in parts[:-1]:
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            raise ConfigError(
                f"{part} of {key} is no section.", stage="config", action="see params.yaml for the sections."
            )
    node[parts[-1]] = value


def _known_keys(raw: Any, model: type[BaseModel], at: tuple[str, ...], origin: str) -> None:
    if not isinstance(raw, Mapping):
        raise ConfigError(
            f"{origin}: {'.'.join(at) or 'params'} must be a mapping.",
            stage="config",
            action="see params.yaml.",
        )
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    for key, value in raw.items():
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1, cutoff=0.0)
            where = ".".join((*at, str(key)))
            offer = (
                f"did you mean {'.'.join((*at, near[0]))}?" if near else f"known keys: {', '.join(fields)}."
            )
            raise ConfigError(f"{origin}: unknown key {where}.", stage="config", action=offer)
        inner = fields[key].annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel) and isinstance(value, Mapping):
            _known_keys(value, inner, (*at, str(key)), origin)


def as_yaml(params: Params) -> str:
    """The whole configuration as YAML, for the lineage and for ``fade params``."""
    return yaml.safe_dump(params.model_dump(mode="json", by_alias=True), sort_keys=False)
