"""The training of a judge's whole network by several processes, each with its share of every batch. One
process needs no job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar

from fade.config import JudgeTrainingConfig, TrainConfig
from fade.config.section import Affects
from fade.errors import DataError, FadeError, TrainingError
from fade.jobs.base import Job, OnProgress
from fade.utils.files import write_json
from fade.utils.parent import raise_if_orphaned

HISTORY = "history.json"
"""Beside the job: [step, numbers by name] of every step that this start made, rank 0's file."""


class JudgeJob(Job):
    """Ends with the last checkpoint in ``work``, from which `fade.judges.train_on_set.train_on_set` makes and
    measures the judge."""

    KIND: ClassVar[str] = "judge"
    STAGE: ClassVar[str] = "judge"
    FAILURE: ClassVar[type[FadeError]] = TrainingError
    OUT_OF_MEMORY: ClassVar[str] = "lower judge.whole.batch_size."
    RESUME: ClassVar[str] = "running it again resumes."
    LIBRARIES: ClassVar[tuple[str, ...]] = ("torch", "transformers")
    MODELS: ClassVar[tuple[str, ...]] = ()

    pictures: Annotated[Path, Affects("nothing")]
    """Folder of the set, with its manifest.csv."""
    manifest_sha256: str
    """Of that manifest."""
    start: Annotated[Path | None, Affects("nothing")] = None
    """The pretrained classifier; None: a small network from nothing. The checkpoint's key has its files."""
    config: JudgeTrainingConfig
    work: Annotated[Path, Affects("nothing")]
    """Folder of the training's checkpoints."""

    @property
    def world_size(self) -> int:
        return self.config.processes

    def run(self, rank: int, world: int, on_progress: OnProgress, *, device: str, **loaded: Any) -> None:
        """Train from the newest checkpoint on; rank 0 alone reports. Raises JobError, DataError for another
        manifest than the job's, and what `fade.judges.train_on_set.train_share` raises."""
        from fade.judges.labelled_pictures import LabelledPictures
        from fade.judges.train_on_set import train_share
        from fade.models.loading import suppress_library_output
        from fade.training.accelerator import make_accelerator

        self.check_rank(rank, world)
        suppress_library_output()
        pictures = LabelledPictures.read(self.pictures)
        if pictures.manifest_sha256 != self.manifest_sha256:
            what = f"the manifest of {self.pictures} is another than the job's."
            raise DataError(what, stage=self.STAGE, action="leave the set as it is, and train again.")
        history: list[tuple[int, dict[str, float]]] = []

        def on_stage(stage: str, done: int, total: int, logs: dict[str, float]) -> None:
            raise_if_orphaned()
            if rank == 0:
                text = "  ".join(f"{name} {value:.3g}" for name, value in logs.items())
                on_progress(done, total, text or stage)
                history.extend([(done, dict(logs))] if logs else [])

        accelerator = make_accelerator(TrainConfig(processes=world, precision="fp32"), cpu=device == "cpu")
        train_share(pictures, self.start, self.config, self.work, accelerator, on_stage)
        if rank == 0:
            write_json(self.out / HISTORY, history)
        self.finish(rank, len(history))
