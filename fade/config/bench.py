"""The benchmark's plan and the settings that its tuning tries."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from fade.config.section import Positive, Resamples, Section, Seed
from fade.data.vocabulary import slug


def _line(knob: str, values: tuple[float, ...], fixed: str = "") -> tuple[str, ...]:
    """One setting a value of the knob, the likeliest first (of equals tuning takes the first)."""
    return tuple(f"{knob}={value:g}{fixed and f' {fixed}'}" for value in values)


_OFFICIAL = _line("train.lr", (1e-3, 2.5e-4, 5e-4, 2e-3, 4e-3))
SWEEP: dict[str, tuple[str, ...]] = {
    "default": _line("train.lr", (2e-3, 5e-4, 1e-3, 4e-3, 8e-3)),
    "fade/paper": _line("train.lr", (2e-3, 5e-4, 1e-3, 4e-3, 8e-3)),
    "fade/official": _OFFICIAL,
    "fade/official-sampled": _OFFICIAL,
    "surgical": _line("train.lr", (4e-3, 1e-3, 2e-3, 8e-3, 0.016)),
    "esd": _line("train.lr", (2e-4, 5e-5, 1e-4, 4e-4, 8e-4)),
    "ablation": _line("train.lr", (2e-4, 5e-5, 1e-4, 4e-4, 8e-4)),
    "spm": _line("train.lr", (1e-3, 2.5e-4, 5e-4, 2e-3, 4e-3), "train.steps=500 method.anchoring_weight=10"),
    "uce": _line("method.identity_weight", (64, 4, 16, 256, 1024)),
    "uce/names-2023": _line("method.identity_weight", (8, 0.5, 2, 32, 128)),
    "uce/names-2025": _line("method.identity_weight", (0.5, 0.125, 2, 8, 32)),
    "speed": _line("method.threshold", (0.06, 0.015, 0.03, 0.12, 0.24)),
    "nullspace": _line("train.lr", (0.02, 5e-3, 0.01, 0.04, 0.08)),
    "nullspace/untrained": _line("method.ridge", (3e-3, 3e-4, 1e-3, 0.01, 0.03)),
    "neighbours": _line("train.lr", (2e-3, 5e-4, 1e-3, 4e-3, 8e-3), "method.adjacency_weight=10"),
    "uce + neighbours": _line("method.identity_weight", (4, 0.25, 1, 16, 64)),
}
"""As many settings for every method; see BenchConfig.sweep."""


class BenchConfig(Section):
    """`fade bench`: methods x targets x seeds. The reported targets and the tuning targets are disjoint."""

    targets: tuple[str, ...] = (
        *("crying cat", "cat with tears of joy", "green heart", "red heart", "oncoming taxi", "police car"),
        *("panda", "tulip", "lemon"),
    )
    """What is reported: two of each of three tight families, three of loose ones."""
    tuning: tuple[str, ...] = ("kissing cat", "blue heart")
    """What the settings of every method are chosen on."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0, 1, 2)
    """Seeds of the training; the first one is tuned with."""
    methods: tuple[str, ...] = ()
    """NAME (its first variant) or NAME/VARIANT, also with `+ neighbours`; empty: all and the controls."""
    reference: str = "fade/paper"
    """The method that the others are tested against."""
    resamples: Resamples = 10000
    """Resamples of the paired bootstrap."""
    grid_images: Positive = 3
    """Pictures a row of the page's grids."""
    trial: tuple[str, ...] = (
        "evaluate.rest_concepts=0",
        "evaluate.images_per_concept=12",
        "evaluate.prompt_images=0",
    )
    """Overrides of a tuning trial: fewer pictures than a cell, and the rule needs no unrelated concept."""
    sweep: dict[str, tuple[str, ...]] = SWEEP
    """Settings (overrides, separated by blanks) that tuning tries: NAME/VARIANT, else NAME, else `default`; a
    fair control: NAME + neighbours, else `neighbours`."""

    @model_validator(mode="after")
    def _targets_and_tuning_apart(self) -> BenchConfig:
        for key, names in (("targets", self.targets), ("tuning", self.tuning)):
            if not names or len({slug(name) for name in names}) != len(names):
                raise ValueError(f"{key} is empty or names a concept twice")
        if both := {slug(name) for name in self.targets} & {slug(name) for name in self.tuning}:
            raise ValueError(f"{', '.join(sorted(both))} is tuned on: such a target is never reported")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds names a seed twice")
        if missing := {"default", "neighbours"} - set(self.sweep):
            raise ValueError(f"sweep lacks {', '.join(sorted(missing))}")
        tries = self.sweep.values()
        if len({len(some) for some in tries}) != 1 or any(len(set(some)) != len(some) for some in tries):
            raise ValueError("sweep must give every method equally many different settings")
        return self
