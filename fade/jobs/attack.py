"""The attacks on one target as a job: independent units (a condition and an attack), shared by N processes.

Our design. Each unit's result is a file in the job's folder, so an interrupted job goes on where it was. The
base's condition is independent of the adapter: it is a job of its own, whose folder all methods share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from fade.config import AttackConfig, SamplerConfig
from fade.config.section import Affects
from fade.errors import BaseModelError
from fade.evaluation.attacks import AttackContext, get_attack
from fade.evaluation.attacks.material import choose, gather
from fade.evaluation.attacks.run import CODE, Successes, run_attack
from fade.jobs.attack_memory import plans_for
from fade.jobs.base import OnProgress
from fade.jobs.generate import ModelJob
from fade.jobs.self_tests import vision_self_test
from fade.judges.classifier import Classifier
from fade.models.base import DiffusionModel
from fade.training.memory import UNDIVIDED
from fade.utils.files import make_folder, read_json, write_json
from fade.utils.parent import raise_if_orphaned


class AttackJob(ModelJob):
    """All attacks of ``attack.names`` under each of ``conditions``."""

    KIND: ClassVar[str] = "attack"
    STAGE: ClassVar[str] = "attack"
    MODELS: ClassVar[tuple[str, ...]] = ("base", "judge")
    OUT_OF_MEMORY: ClassVar[str] = "lower model.memory_gb, or attack.batch."
    CODE: ClassVar[tuple[str, ...]] = CODE

    target: str
    """The erased concept."""
    conditions: tuple[str, ...] = Field(min_length=1)
    """Of `fade.evaluation.attacks.run.CONDITIONS`; ``base`` needs no adapter, the others do."""
    judge: Annotated[str, Affects("nothing")]
    """Directory (or hub id) of the classifier."""
    judge_sha256: str
    """What ``Classifier(judge).sha256`` must be."""
    images: Annotated[Path, Affects("nothing")]
    """Folder of the pictures and their manifest."""
    images_sha256: str
    """`fade.evaluation.attacks.material.pictures_sha256` of that folder."""
    sampler: SamplerConfig
    """How pictures are made."""
    attack: AttackConfig

    @model_validator(mode="after")
    def _adapter_where_needed(self) -> Self:
        # Without it the original model would be attacked under the erased model's name.
        if self.adapter is None and set(self.conditions) != {"base"}:
            raise ValueError("the conditions other than base need an adapter")
        return self

    def units(self) -> list[tuple[str, str]]:
        """(condition, attack) of every unit. Raises UnknownNameError for an attack that is not registered."""
        for name in self.attack.names:
            get_attack(name)
        return [(condition, name) for condition in self.conditions for name in self.attack.names]

    def run(self, rank: int, world: int, on_progress: OnProgress, *, device: str, **loaded: Any) -> None:
        """Run this rank's units, each under the budget of ``attack``.

        Raises what `fade.evaluation.attacks.run.run_attack` and `ModelJob.merged` raise, BaseModelError for
        another base or judge, ConfigError for an attack that does not fit the device, TrainingError when the
        process that waits is gone."""
        self.check_rank(rank, world)
        units = self.units()[rank::world]
        missing = [unit for unit in units if self._result(*unit) is None]
        if missing:
            base = loaded.get("base")
            base = self.load_base(device) if base is None else self.check_base(base)
            judge = self.load_judge(base, loaded.get("judge"))
            plans = plans_for(base, self.attack, self.model)  # while the base has no adapter
            material = gather(base, self.images, self.target, self.attack)
            subject = AttackContext(base, judge, self.sampler, self.attack, material, self.target)

            def run_units(conditions: Sequence[str]) -> None:
                for condition, name in missing:
                    if condition in conditions:
                        how = plans.get(name, UNDIVIDED)
                        planned = replace(subject, at_once=how.student, checkpointing=how.checkpointing)
                        self._run_unit(planned, condition, name)
                        on_progress(self._done(units), len(units), name)

            run_units(["base"])
            with self.merged(base):
                run_units(["erased", "control"])
        self.finish(rank, len(missing))

    def load_judge(self, base: DiffusionModel, given: Classifier | None) -> Classifier:
        """The judge on the base's device, ``given`` or loaded. Raises BaseModelError for another than the
        job's, and as `Job.check_self_test`."""
        judge = given or Classifier(self.judge, base.device)
        if judge.sha256 != self.judge_sha256:
            what = f"{self.judge} is {judge.sha256[:12]}, the job was written for {self.judge_sha256[:12]}."
            raise BaseModelError(what, stage=self.STAGE, action="run it again with this judge.")
        if given is None:
            self.check_self_test("judge", lambda: vision_self_test(judge, judge.logits))
        return judge

    def result(self, condition: str) -> Successes:
        """By attack the success (percent), n, unet_calls and facts of one condition of a finished job."""
        return {name: self._result(condition, name) or {} for name in self.attack.names}

    def control(self) -> str:
        """The random-control concept. Raises what `fade.evaluation.attacks.material.choose` raises."""
        return choose(self.images, self.target, self.attack)[0]

    def finished(self) -> bool:
        """As `Job.finished`, with every unit's result in its file."""
        return super().finished() and all(self._result(*unit) is not None for unit in self.units())

    def _run_unit(self, subject: AttackContext, condition: str, name: str) -> None:
        raise_if_orphaned()
        concept = subject.material.control if condition == "control" else self.target
        adapter = "" if condition == "base" else self.adapter_sha256
        result = run_attack(replace(subject, concept=concept, adapter=adapter), name)
        path = self._path(condition, name)
        make_folder(path.parent)
        write_json(path, {"key": self.key(), **result})

    def _result(self, condition: str, name: str) -> dict[str, Any] | None:
        """A unit's result under the job's key; None when there is none."""
        row = read_json(self._path(condition, name))
        if not isinstance(row, dict) or row.pop("key", None) != self.key():
            return None
        return row

    def _path(self, condition: str, name: str) -> Path:
        return self.out / "results" / f"{condition}-{name}.json"

    def _done(self, units: Sequence[tuple[str, str]]) -> int:
        return sum(self._path(*unit).is_file() for unit in units)
