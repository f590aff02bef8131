"""What is compared: conditions (a method as it is run) x targets x seeds, by the registry and params.yaml."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

from fade.config import BenchConfig, Params
from fade.data.vocabulary import Vocabulary
from fade.erasers.base import Eraser, get_eraser, known_erasers, variants_of
from fade.errors import UsageError
from fade.run.resolve_params import resolve

CONTROL = " + neighbours"
"""What a fair control is called after: FADE's neighbours as anchors of a method that has none."""


@dataclass(frozen=True)
class Condition:
    """A method as it is run."""

    name: str
    variant: str
    neighbours: bool = False
    """Whether FADE's neighbours are added as anchors."""

    @property
    def label(self) -> str:
        """``esd/x`` or ``esd/x + neighbours``."""
        return f"{self.name}/{self.variant}{CONTROL if self.neighbours else ''}"

    @property
    def method(self) -> Eraser:
        return get_eraser(self.name, self.variant)

    @property
    def given(self) -> str:
        """What it gets beside the target, in words: see `Eraser.given`."""
        parts = ["the neighbours"] if self.neighbours else []
        parts += [self.method.given] if self.method.given else []
        return ", ".join(parts) or "nothing"

    def overrides(self) -> list[str]:
        """What makes it this condition, its authors' recipe included where the registry knows one."""
        anchors = ["method.anchors=neighbourhood"] if self.neighbours else []
        return [f"method.name={self.name}", f"method.variant={self.variant}", *anchors, *self.method.recipe]


@dataclass(frozen=True)
class Cell:
    """One condition on one target with one seed."""

    condition: Condition
    target: str
    seed: int

    @property
    def label(self) -> str:
        return f"{self.condition.label}, {self.target}, seed {self.seed}"


@dataclass(frozen=True)
class Plan:
    """Cells come seed by seed, then target by target: a half-finished benchmark compares all conditions. A
    condition that no seed decides has the cells of the first seed alone."""

    conditions: tuple[Condition, ...]
    targets: tuple[str, ...]
    seeds: tuple[int, ...]

    def cells(self) -> Iterator[Cell]:
        places = product(self.seeds, self.targets, self.conditions)
        return (Cell(c, target, seed) for seed, target, c in places if seed in self.seeds_of(c))

    def seeds_of(self, condition: Condition) -> tuple[int, ...]:
        """The seeds with which it is measured."""
        return self.seeds[:1] if condition.method.seedless else self.seeds

    def __len__(self) -> int:
        return len(self.targets) * sum(len(self.seeds_of(condition)) for condition in self.conditions)


def parse_condition(text: str) -> Condition:
    """``esd``, ``esd/x`` or ``esd/x + neighbours``. Raises UnknownNameError, UsageError."""
    plain, plus, added = (part.strip() for part in text.partition("+"))
    name, slash, variant = plain.partition("/")
    condition = Condition(name, variant if slash else variants_of(name)[0], bool(plus))
    takes_anchors = condition.method.accepts_anchors  # an unknown variant ends here
    if plus and added != "neighbours":
        what, action = (
            f"{text!r} is no condition of the benchmark.",
            "write NAME/VARIANT or NAME/VARIANT + neighbours.",
        )
        raise UsageError(what, stage="bench", action=action)
    if plus and not takes_anchors:
        what = f"{plain} takes no neighbours as anchors."
        raise UsageError(what, stage="bench", action=f"leave {added!r} out.")
    return condition


def every_condition() -> tuple[Condition, ...]:
    """Every registered variant, then the control of each method that can have one, by its first variant."""
    known = known_erasers()
    plain = [Condition(name, variant) for name, variants in known.items() for variant in variants]
    firsts = [Condition(name, variants[0], neighbours=True) for name, variants in known.items()]
    return (*plain, *(condition for condition in firsts if condition.method.accepts_anchors))


def plan_of(bench: BenchConfig, vocabulary: Vocabulary | None) -> Plan:
    """The plan that params.yaml asks for. Raises UnknownNameError for a concept or method that is not there.

    vocabulary: None where the data are not at hand; then concepts are not checked."""
    if vocabulary is not None:
        for name in (*bench.targets, *bench.tuning):
            vocabulary.index(name, stage="bench")
    conditions = tuple(dict.fromkeys(map(parse_condition, bench.methods))) or every_condition()
    parse_condition(bench.reference)
    return Plan(conditions, bench.targets, bench.seeds)


def narrowed(
    *, quick: bool = False, bench: BenchConfig, methods: str = "", targets: str = "", seeds: str = ""
) -> list[str]:
    """The command line's choices (names by comma) as overrides of params.yaml.

    quick: the first target, the first seed, and the variant that each method's bare name means."""
    chosen: dict[str, Sequence[object]] = {}
    if quick:
        chosen = {"targets": bench.targets[:1], "seeds": bench.seeds[:1], "methods": list(known_erasers())}
    for key, text in {"methods": methods, "targets": targets, "seeds": seeds}.items():
        parts = [part.strip() for part in text.split(",") if part.strip()]
        if text:
            chosen[key] = [int(p) if key == "seeds" and p.lstrip("-").isdigit() else p for p in parts]
    return [f"bench.{key}={json.dumps(list(values))}" for key, values in chosen.items()]


def settings_of(cell: Cell, chosen: Sequence[str], path: Path, overrides: Sequence[str]) -> Params:
    """params.yaml, then the method's own settings, its recipe, what was tuned (``chosen``), and at last what
    the user set.

    The cell's seed is the training's; what is judged starts from the same noise in every cell."""
    params = _settings(path, (*cell.condition.overrides(), *chosen, *overrides))
    return params.model_copy(update={"train": params.train.model_copy(update={"seed": cell.seed})})


@cache
def _settings(path: Path, overrides: tuple[str, ...]) -> Params:
    """Read once: hundreds of cells differ in target and seed alone."""
    return resolve(path, overrides)


def tries_of(condition: Condition, sweep: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """The settings that tuning tries for a condition, each a list of overrides."""
    control = (condition.label, f"{condition.name}{CONTROL}", "neighbours")
    plain = (*condition.method.labels, condition.name, "default")
    names = control if condition.neighbours else plain
    return [shlex.split(text) for text in next(sweep[name] for name in names if name in sweep)]
