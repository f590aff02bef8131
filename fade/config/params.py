"""All of params.yaml: read, checked, hashed."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from fade.config import commands, evaluation, run
from fade.config.bench import BenchConfig
from fade.config.judge import JudgeTrainingConfig
from fade.config.method import MethodConfig
from fade.config.pretrain import PretrainConfig
from fade.config.release import ReleaseConfig
from fade.config.section import Affects, Section
from fade.utils.hashing import fingerprint

_UNRECORDED = Affects("nothing", recorded=False)
_LATER: dict[str, tuple[str, ...]] = {
    "data": ("second_judge",),
    "sampler": ("guidance_interval",),
    "train": ("loss_in",),
    "evaluate": ("sentences", "pairs", "prompt_images", "prompts_known", "real_pictures"),
}
"""Keys that earlier versions had not, by section."""


class Params(Section):
    """All of params.yaml. A section declares what it decides; a field that decides less declares that."""

    data: Annotated[run.DataConfig, Affects("training")] = run.DataConfig()
    model: Annotated[run.ModelConfig, Affects("training")] = run.ModelConfig()
    checks: Annotated[run.ChecksConfig, Affects("nothing")] = run.ChecksConfig()
    self_test: Annotated[run.SelfTestConfig, _UNRECORDED] = run.SelfTestConfig()
    sampler: Annotated[run.SamplerConfig, Affects("training")] = run.SamplerConfig()
    neighborhood: Annotated[run.NeighborhoodConfig, Affects("training")] = run.NeighborhoodConfig()
    mesh: Annotated[run.MeshConfig, Affects("training")] = run.MeshConfig()
    method: Annotated[MethodConfig, Affects("training")] = Field(default_factory=MethodConfig)
    train: Annotated[run.TrainConfig, Affects("training")] = run.TrainConfig()
    settings: Annotated[dict[str, tuple[str, ...]], _UNRECORDED] = Field(default={})
    """What a method sets in place of the sections above, under NAME or NAME/VARIANT: as with ``--set``, which
    wins. It wins over the settings that the method brings itself (`fade methods`), and those over the
    sections above. It acts through the values that it sets, and so does ``styles``."""
    evaluate: Annotated[evaluation.EvaluateConfig, Affects("evaluation")] = evaluation.EvaluateConfig()
    attack: Annotated[evaluation.AttackConfig, Affects("attacks")] = evaluation.AttackConfig()
    bench: Annotated[BenchConfig, _UNRECORDED] = BenchConfig()
    purify: Annotated[commands.PurifyConfig, Affects("nothing")] = commands.PurifyConfig()
    styles: Annotated[commands.StylesConfig, Affects("nothing")] = commands.StylesConfig()
    worlds: Annotated[dict[commands.WorldName, commands.WorldConfig], _UNRECORDED] = Field(default={})
    """The embedded worlds by name, for `--world`; each acts through the values that it sets. Which data a
    repository tracks is no default of the code."""
    nudity: Annotated[commands.NudityConfig, Affects("nothing")] = commands.NudityConfig()
    gate: Annotated[commands.PromotionPolicy, _UNRECORDED] = commands.PromotionPolicy()
    release: Annotated[ReleaseConfig, _UNRECORDED] = ReleaseConfig()
    register_: Annotated[commands.RegisterConfig, Affects("nothing")] = Field(
        default=commands.RegisterConfig(), alias="register"
    )
    signing: Annotated[commands.SigningConfig, _UNRECORDED] = commands.SigningConfig()
    audit: Annotated[commands.AuditConfig, _UNRECORDED] = commands.AuditConfig()
    schedule: Annotated[commands.ScheduleConfig, _UNRECORDED] = commands.ScheduleConfig()
    judge: Annotated[JudgeTrainingConfig, _UNRECORDED] = JudgeTrainingConfig()
    pretrain: Annotated[PretrainConfig, _UNRECORDED] = PretrainConfig()

    def run_fields(self) -> dict[str, Any]:
        """What a run's key holds: the sections that decide its training or its evaluation. A field of them
        that decides neither counts as its default, and a later one (_LATER) at its default does not count, so
        that runs of earlier versions keep their keys."""
        fields = self.key_fields("evaluation")
        if self.model.dtype == type(self.model)().dtype:  # earlier versions had no other
            fields.pop("model")
        out = Params.model_validate(fields).model_dump(mode="json", by_alias=True, include=set(fields))
        return self.without_later(out)

    def without_later(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Sections as JSON without the later keys (_LATER) that are at their default."""
        for name, keys in _LATER.items():
            section = getattr(self, name)
            default = type(section)()
            for key in keys if name in fields else ():
                if getattr(section, key) == getattr(default, key):
                    del fields[name][key]
        return fields

    def recorded(self) -> dict[str, Any]:
        """The parameters in a run's record: all sections but those whose field has ``recorded=False`` (the
        pretraining, the benchmark, the gate, the release, signing, the schedule). ``settings`` is applied
        already."""
        fields = type(self).model_fields.items()
        left_out = {name for name, field in fields if not Affects.of(field).recorded}
        return self.model_dump(mode="json", by_alias=True, exclude=left_out)

    def sha256(self) -> str:
        """Hash of what is recorded."""
        return fingerprint(self.recorded())
