"""The section that decides how a release is built from its champions."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from fade.config.run import MAX_RANK
from fade.config.section import LARGEST, Count, Rate, Section, Seed, Weight, check_slots

NO_BYTES = frozenset({"residual", "retries"})
"""Keys that decide no byte of a release."""


class ReleaseConfig(Section):
    """`fade release`: how the champions of all concepts become one adapter. See `fade.adapters.solve`."""

    mode: Literal["sum", "solve"] = "sum"
    """sum: the updates are added up. solve: of every layer that reads the text, the update that is nearest to
    each champion's on its own target and to none on what must stay; all other layers are added up."""
    keep_weight: Weight = 10.0
    """Weight of what must stay, against 1 of each champion's target."""
    ridge: Annotated[float, Field(gt=0)] = 0.001
    """Weight of the update's own size, in shares of the kept moment's mean eigenvalue."""
    tolerance: Rate = 1e-6
    """Share of an update (Frobenius norm) that the rank may leave out."""
    rank: Annotated[int, Field(ge=0, le=MAX_RANK)] = 0
    """Largest rank of a solved layer; 0: as large as ``tolerance`` needs."""
    templates: tuple[str, ...] = ("{concept}", "a picture of a {concept}", "two {concept}")
    """Ways to name a concept, beside sampler.prompt. None of them is a prompt that is judged."""
    words: Count = 400
    """How many words of the tokenizer's vocabulary, and as many pairs of them, must stay."""
    seed: Seed = 11000
    """Seed of the split of the concepts that must stay."""
    measured_one_in: Annotated[int, Field(ge=2, le=LARGEST)] = 3
    """One concept of so many is never used by a release, only measured."""
    residual: Weight = 0.25
    """Largest share of a champion's change on its own target that may be missing, or be of other champions;
    above it a release names the concept that breaks first."""
    retries: Count = 2
    """Further releases that the scheduler makes of the champions that remain, when the gate refuses one. 0:
    it only names the set that has to stay out."""

    @field_validator("templates")
    @classmethod
    def _have_slots(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
        for template in templates:
            check_slots("templates", template, "concept")
        return templates
