"""Train a judge on a data set: on its training pictures alone, measured on those that are held out."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

STAGE = "judge"
PROBE, WHOLE, SCRATCH = "probe", "whole", "scratch"
OnStage = Callable[[str, int, int, Logs], None]
"""Arguments: the stage's name, steps or pictures done, in all, and a step's numbers."""
_HALF = (0.5, 0.5, 0.5)


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
    which plain squares are enough for. probe: train its head alone. Raises UsageError where a start is
    needed, DataError of the pictures, BaseModelError of the start, DivergedError."""
    side = pictures.plain_side(config.plain_side)
    if start is None:
        _require_no_start(pictures, side, config, probe=probe)
        return _from_nothing(pictures, side, config, work, on_stage)
    source = read_source(start)
    preparation = source.preparation
    if preparation is None:
        what = f"{start}: how it takes pictures is not in its files."
        action = f"import it first: `fade judge import {start} --resize 256 --crop 224 --out DIR`, say."
        raise BaseModelError(what, stage=STAGE, action=action)
    if config.size:
        preparation = preparation.scaled(config.size)
    model = source.model
    check_output(model, preparation.crop, str(start), STAGE)
    place(model, device)
    job = _Job(pictures, source, preparation, config, work, bool(side), on_stage)
    return job.probe() if probe else job.whole()


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


def _training(
    pictures: LabelledPictures, config: JudgeTrainingConfig, folder: Path, on_stage: OnStage, **more: str
) -> Training:
    def on_step(step: int, steps: int, logs: Logs) -> None:
        on_stage("train", step, steps, logs)

    return Training(folder, config.seed, on_step, {"manifest": pictures.manifest_sha256, **more})


def _from_nothing(
    pictures: LabelledPictures, side: int, config: JudgeTrainingConfig, work: Path, on_stage: OnStage
) -> TrainedJudge:
    preparation = Preparation(side, side, mean=_HALF, std=_HALF)
    rows = np.flatnonzero(~pictures.heldout)
    pixels = torch.from_numpy(pictures.load(rows, lambda one: preparation.cut(one, whole=True)))
    names = [pictures.labels[i] for i in pictures.targets[rows]]
    training = _training(pictures, config, work / SCRATCH, on_stage)
    model = scratch.train(pixels, names, pictures.labels, config.scratch, training)
    odds = _heldout(model, pictures, preparation, config.batch_size, plain=True, on_stage=on_stage)
    return TrainedJudge(model, SCRATCH, preparation, odds, None)


@dataclass(frozen=True)
class _Job:
    """A pretrained classifier that is taught the pictures' labels."""

    pictures: LabelledPictures
    source: Source
    preparation: Preparation
    config: JudgeTrainingConfig
    work: Path
    plain: bool
    on_stage: OnStage

    @property
    def facts(self) -> dict[str, str]:
        """What features and checkpoints depend on, beside the pictures."""
        return {
            "start": fingerprint(dict(self.source.files)),
            "taken": fingerprint(self.preparation.to_json()),
        }

    def probe(self) -> TrainedJudge:
        model, pictures = self.source.model, self.pictures
        key = fingerprint({"manifest": pictures.manifest_sha256, "plain": self.plain, **self.facts})
        features = cached_features(
            model,
            pictures,
            self.preparation,
            self.work / "features",
            key,
            self.config.batch_size,
            plain=self.plain,
            on_pictures=lambda done, total: self.on_stage("features", done, total, {}),
        )
        known = torch.from_numpy(~pictures.heldout)
        targets = torch.from_numpy(pictures.targets)
        training = _training(pictures, self.config, self.work / PROBE, self.on_stage, **self.facts)
        classes = len(pictures.labels)
        weight, bias = train_head(features[known], targets[known], classes, self.config.probe, training)
        put_head(model, weight, bias)
        odds = (features[~known] @ weight.T + bias).softmax(-1)
        return TrainedJudge(_finished(model), PROBE, self.preparation, odds.numpy(), self.source)

    def whole(self) -> TrainedJudge:
        model, pictures = self.source.model, self.pictures
        _, _, old = head_of(model)
        classes = len(pictures.labels)
        put_head(model, torch.zeros(classes, old.in_features), torch.zeros(classes))
        rows = np.flatnonzero(~pictures.heldout)
        squares = self._squares(rows)
        training = _training(pictures, self.config, self.work / WHOLE, self.on_stage, **self.facts)
        targets = torch.from_numpy(pictures.targets[rows])
        numbers = self.config.whole
        train_whole(model, squares, targets, self.preparation, numbers, training, plain=self.plain)
        batch = self.config.batch_size
        odds = _heldout(model, pictures, self.preparation, batch, plain=self.plain, on_stage=self.on_stage)
        return TrainedJudge(_finished(model), WHOLE, self.preparation, odds, self.source)

    def _squares(self, rows: np.ndarray) -> np.ndarray:
        """The training pictures, uint8 (N, R, R, 3), in a file: thousands of photographs are gigabytes."""
        side = self.preparation.crop if self.plain else self.preparation.resize
        self.work.mkdir(parents=True, exist_ok=True)
        file = self.work / "squares.npy"
        shape = (len(rows), side, side, 3)
        squares = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=shape)
        for start in range(0, len(rows), CHUNK):
            some = rows[start : start + CHUNK]
            squares[start : start + len(some)] = self.pictures.load(
                some, lambda one: self.preparation.cut(one, whole=self.plain, wide=not self.plain)
            )
            self.on_stage("pictures", start + len(some), len(rows), {})
        return squares


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
    (work / "squares.npy").unlink(missing_ok=True)
