"""Train a judge on a data set: on its training pictures alone, measured on those that are held out."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fade.config import JudgeTrainingConfig
from fade.errors import BaseModelError, UsageError
from fade.judges import train as scratch
from fade.judges.importing import Source, read_source
from fade.judges.labelled_pictures import LabelledPictures
from fade.judges.preparation import Preparation
from fade.judges.supervised_loop import Logs, Training
from fade.judges.transfer import (
    CHUNK,
    cached_features,
    head_of,
    network_input,
    put_head,
    train_head,
    train_whole,
)
from fade.models.placement import place
from fade.models.probe import check_output
from fade.utils.hashing import fingerprint
from fade.utils.locks import lock_folder

if TYPE_CHECKING:
    from accelerate import Accelerator

STAGE = "judge"
PROBE, WHOLE, SCRATCH = "probe", "whole", "scratch"
OnStage = Callable[[str, int, int, Logs], None]
"""Arguments: the stage's name, steps or pictures done, in all, and a step's numbers."""
_HALF = (0.5, 0.5, 0.5)
PATIENCE = 3600.0
"""Seconds for which one process waits for the pictures that another one reads."""


@dataclass(frozen=True)
class TrainedJudge:
    """A judge, and what it gives for the pictures that are held out."""

    model: Any
    """On the CPU, frozen, in eval mode."""
    mode: str
    """``probe``, ``whole`` or ``scratch``."""
    preparation: Preparation
    probabilities: np.ndarray
    """(n, L) of the held-out pictures, in the manifest's order."""
    start: Source | None


def train_on_set(
    pictures: LabelledPictures,
    start: Path | None,
    config: JudgeTrainingConfig,
    work: Path,
    *,
    probe: bool = False,
    device: str = "cpu",
    on_stage: OnStage = lambda stage, done, total, logs: None,
) -> TrainedJudge:
    """Train a judge of the pictures' labels. A stopped training continues from ``work``, where features and
    checkpoints lie.

    start: a pretrained classifier, see `read_source`; without it a small ResNet is trained from nothing,
    which plain squares are enough for. probe: train its head alone. With ``config.processes`` above 1 a whole
    network is trained by as many calls of `train_share`, and this one goes on where they ended. Raises
    UsageError where a start is needed, DataError of the pictures, BaseModelError of the start, DivergedError,
    TrainingError where the other processes have not ended."""
    job = _job(pictures, start, config, work, on_stage, probe=probe, device=device)
    if probe:
        return job.probe()
    model = job.network()
    odds = _heldout(
        model, pictures, job.preparation, config.batch_size, plain=job.plain, on_stage=job.on_stage
    )
    mode = SCRATCH if start is None else WHOLE
    return TrainedJudge(_finished(model), mode, job.preparation, odds, job.source)


def train_share(
    pictures: LabelledPictures,
    start: Path | None,
    config: JudgeTrainingConfig,
    work: Path,
    accelerator: Accelerator,
    on_stage: OnStage,
) -> None:
    """The part of one of ``config.processes`` processes in the training of a whole network, up to the last
    checkpoint in ``work``. Raises as `train_on_set`."""
    device = str(accelerator.device)
    _job(pictures, start, config, work, on_stage, device=device, accelerator=accelerator).network()


def _job(
    pictures: LabelledPictures,
    start: Path | None,
    config: JudgeTrainingConfig,
    work: Path,
    on_stage: OnStage,
    *,
    probe: bool = False,
    device: str = "cpu",
    accelerator: Accelerator | None = None,
) -> _Job:
    side = pictures.plain_side(config.plain_side)
    if start is None:
        _require_no_start(pictures, side, config, probe=probe)
        preparation = Preparation(side, side, mean=_HALF, std=_HALF)
        return _Job(pictures, None, preparation, config, work, True, on_stage, accelerator)
    source = read_source(start)
    known = source.preparation
    if known is None:
        what = f"{start}: how it takes pictures is not in its files."
        action = f"import it first: `fade judge import {start} --resize 256 --crop 224 --out DIR`, say."
        raise BaseModelError(what, stage=STAGE, action=action)
    preparation = known.scaled(config.size) if config.size else known
    check_output(source.model, preparation.crop, str(start), STAGE)
    place(source.model, device)
    return _Job(pictures, source, preparation, config, work, bool(side), on_stage, accelerator)


def _require_no_start(
    pictures: LabelledPictures, side: int, config: JudgeTrainingConfig, *, probe: bool
) -> None:
    if probe:
        what = "--probe trains a head on a pretrained judge's features, and none is named."
        raise UsageError(what, stage=STAGE, action="name one with --from.")
    if not side:
        what = (
            f"{pictures.folder} holds photographs (or squares beyond {config.plain_side} pixels): a network "
            "that starts from nothing does not learn them."
        )
        action = (
            "name a pretrained judge with --from (`fade judge import` makes one), with or without --probe."
        )
        raise UsageError(what, stage=STAGE, action=action)


@dataclass(frozen=True)
class _Job:
    """A classifier that is taught the pictures' labels: a pretrained one, or one that starts from nothing."""

    pictures: LabelledPictures
    source: Source | None
    preparation: Preparation
    config: JudgeTrainingConfig
    work: Path
    plain: bool
    """Whether the pictures are squares that are read whole."""
    on_stage: OnStage
    accelerator: Accelerator | None

    @property
    def facts(self) -> dict[str, str]:
        """What features and checkpoints depend on, beside the pictures."""
        if self.source is None:
            return {}
        return {
            "start": fingerprint(dict(self.source.files)),
            "taken": fingerprint(self.preparation.to_json()),
        }

    @property
    def key(self) -> str:
        """Of what is made of the pictures."""
        facts = {"manifest": self.pictures.manifest_sha256, "plain": self.plain, **self.facts}
        return fingerprint(facts)

    def training(self, mode: str, processes: int) -> Training:
        """Of a mode, in the folder of its name."""

        def on_step(step: int, steps: int, logs: Logs) -> None:
            self.on_stage("train", step, steps, logs)

        identity = {"manifest": self.pictures.manifest_sha256, **self.facts}
        where = (self.work / mode, self.config.seed, on_step, identity)
        return Training(*where, processes, self.accelerator)

    def probe(self) -> TrainedJudge:
        assert self.source is not None
        model, pictures = self.source.model, self.pictures
        features = cached_features(
            model,
            pictures,
            self.preparation,
            self.work / "features",
            self.key,
            self.config.batch_size,
            plain=self.plain,
            on_pictures=lambda done, total: self.on_stage("features", done, total, {}),
        )
        known = torch.from_numpy(~pictures.heldout)
        targets = torch.from_numpy(pictures.targets)
        training = self.training(PROBE, 1)
        classes = len(pictures.labels)
        weight, bias = train_head(features[known], targets[known], classes, self.config.probe, training)
        put_head(model, weight, bias)
        odds = (features[~known] @ weight.T + bias).softmax(-1)
        return TrainedJudge(_finished(model), PROBE, self.preparation, odds.numpy(), self.source)

    def network(self) -> Any:
        """The whole network, trained from the newest checkpoint on."""
        rows = np.flatnonzero(~self.pictures.heldout)
        if self.source is None:
            return self._from_nothing(rows)
        model, classes = self.source.model, len(self.pictures.labels)
        _, _, old = head_of(model)
        put_head(model, torch.zeros(classes, old.in_features), torch.zeros(classes))
        squares, targets = self._squares(rows), torch.from_numpy(self.pictures.targets[rows])
        training = self.training(WHOLE, self.config.processes)
        numbers = self.config.whole
        train_whole(model, squares, targets, self.preparation, numbers, training, plain=self.plain)
        return model

    def _from_nothing(self, rows: np.ndarray) -> Any:
        pictures = self.pictures
        pixels = torch.from_numpy(pictures.load(rows, lambda one: self.preparation.cut(one, whole=True)))
        names = [pictures.labels[i] for i in pictures.targets[rows]]
        training = self.training(SCRATCH, self.config.processes)
        return scratch.train(pixels, names, pictures.labels, self.config.scratch, training)

    def _squares(self, rows: np.ndarray) -> np.ndarray:
        """The training pictures, uint8 (N, R, R, 3), in a file that is made once: thousands of photographs
        are gigabytes. Of several processes the others wait for the first."""
        side = self.preparation.crop if self.plain else self.preparation.resize
        file, busy = self.work / f"squares-{self.key[:12]}.npy", "the pictures are being read"
        with lock_folder(self.work, busy, STAGE, name=".squares.lock", patience=PATIENCE):
            if not file.is_file():
                part, shape = file.with_suffix(".part"), (len(rows), side, side, 3)
                squares = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)
                for start in range(0, len(rows), CHUNK):
                    some = rows[start : start + CHUNK]
                    squares[start : start + len(some)] = self.pictures.load(
                        some, lambda one: self.preparation.cut(one, whole=self.plain, wide=not self.plain)
                    )
                    self.on_stage("pictures", start + len(some), len(rows), {})
                squares.flush()
                part.replace(file)
        made: np.ndarray = np.load(file, mmap_mode="r")
        return made


def _finished(model: Any) -> Any:
    return model.to("cpu").eval().requires_grad_(False)


@torch.inference_mode()
def _heldout(
    model: Any,
    pictures: LabelledPictures,
    preparation: Preparation,
    batch: int,
    *,
    plain: bool,
    on_stage: OnStage,
) -> np.ndarray:
    """Probabilities (n, L) of the held-out pictures."""
    rows, device = np.flatnonzero(pictures.heldout), next(model.parameters()).device
    parts: list[Tensor] = []
    for start in range(0, len(rows), batch):
        some = rows[start : start + batch]
        pixels = pictures.load(some, lambda one: preparation.cut(one, whole=plain))
        logits = model(pixel_values=network_input(pixels, preparation, device)).logits
        parts.append(logits.float().softmax(-1).cpu())
        on_stage("held out", start + len(some), len(rows), {})
    odds: np.ndarray = torch.cat(parts).numpy()
    return odds


def remove_work(work: Path) -> None:
    """Remove what a finished training needs no more: checkpoints and squares; features are kept."""
    for name in (PROBE, WHOLE, SCRATCH):
        shutil.rmtree(work / name, ignore_errors=True)
    for file in work.glob("squares*"):
        file.unlink()
