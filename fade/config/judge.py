"""The section of `fade judge train`."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from fade.config.pretrain import FitConfig, JudgeConfig
from fade.config.section import Positive, Section, Seed


class JudgeTrainingConfig(Section):
    """`fade judge train`: a judge for a folder of pictures. Each of its trainings has numbers of its own."""

    seed: Seed = 0
    """Names every draw: order of the pictures, cuts, the network where it starts from nothing."""
    size: Annotated[int, Field(ge=0, le=4096)] = 0
    """Side of a picture as a pretrained judge reads it, pixels; 0: the one of its own training."""
    plain_side: Positive = 128
    """Squares of one size up to this, in pixels, are drawings that are read whole; all else is photographs:
    the shorter side resized, the middle cut out."""
    batch_size: Positive = 64
    """Pictures at once where nothing is trained: features, and what is held out."""
    processes: Positive = 1
    """Processes of this machine (GPUs, where it has some) that share every batch of a whole network; a
    head (`--probe`) is trained by one."""
    probe: FitConfig = FitConfig(
        steps=2000, batch_size=256, lr=1e-2, weight_decay=1e-3, ema=0.99, checkpoint_every=500
    )
    """A linear head on the features of a pretrained judge (`--probe`)."""
    whole: FitConfig = FitConfig(
        steps=2000, batch_size=32, lr=2e-4, weight_decay=0.05, ema=0.99, checkpoint_every=100
    )
    """A whole pretrained judge (`--from`)."""
    scratch: JudgeConfig = JudgeConfig(steps=1200, batch_size=64, lr=2e-3)
    """A small ResNet from nothing, of plain squares: as the shipped judge."""

    @model_validator(mode="after")
    def _shares_are_equal(self) -> Self:
        for name, size in (("whole", self.whole.batch_size), ("scratch", self.scratch.batch_size)):
            if size % self.processes:
                raise ValueError(f"{name}.batch_size = {size} is no multiple of processes = {self.processes}")
        return self
