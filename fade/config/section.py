"""What every section of params.yaml is, and what its fields decide."""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic.fields import FieldInfo

from fade.utils.seeds import MAX_SEED

LARGEST = 10**9
MAX_STEPS = 1000
"""Solver steps: the schedule of the training has no more times."""
MAX_RESAMPLES = 10**6
Positive = Annotated[int, Field(ge=1, le=LARGEST)]
Count = Annotated[int, Field(ge=0, le=LARGEST)]
Steps = Annotated[int, Field(ge=1, le=MAX_STEPS)]
Resamples = Annotated[int, Field(ge=1, le=MAX_RESAMPLES)]
Seed = Annotated[int, Field(ge=-MAX_SEED, le=MAX_SEED)]
Weight = Annotated[float, Field(ge=0)]
Rate = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Effect = Literal["nothing", "attacks", "evaluation", "training"]
"""A result that a field decides, and with it those to the left: training decides the evaluation, too."""


@dataclass(frozen=True)
class Affects:
    """What a field decides, as its metadata: ``Annotated[int, Affects("nothing")]``.

    A field without it takes over its section's, and decides everything where the section has none either."""

    what: Effect
    recorded: bool = True
    """False: a section that the record of a run leaves out."""

    @classmethod
    def of(cls, field: FieldInfo) -> Affects:
        """The declaration of a field."""
        return next((entry for entry in field.metadata if isinstance(entry, cls)), cls("training"))

    def reaches(self, effect: Effect) -> bool:
        """True when the field decides ``effect``."""
        return get_args(Effect).index(self.what) >= get_args(Effect).index(effect)


class Section(BaseModel):
    """A frozen section of params.yaml."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, strict=False, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch(cls, value: Any) -> Any:
        if _has_switch(value):  # YAML reads yes, on and true alike, and pydantic would count them as 1
            raise ValueError("a yes or no is no value of this key")
        return value

    @classmethod
    def known_keys(cls) -> dict[str, FieldInfo]:
        """Every key of the section, as params.yaml spells it."""
        return {field.alias or name: field for name, field in cls.model_fields.items()}

    def key_fields(self, affects: Effect) -> dict[str, Any]:
        """The section as JSON without the fields, at any depth, that do not affect ``affects``: for
        the key under which such a result is reused."""
        return self.model_dump(mode="json", by_alias=True, exclude=_without_effect(type(self), affects))


def _has_switch(value: Any) -> bool:
    """Whether it is a bool, or a list with one at any depth. A mapping's values are fields of their own, or
    have a strict type."""
    if isinstance(value, list | tuple | set | frozenset):
        return any(map(_has_switch, value))
    return isinstance(value, bool)


def _without_effect(section: type[Section], affects: Effect) -> dict[str, Any]:
    """The fields that do not affect ``affects``, as pydantic's ``exclude``."""
    fields: dict[str, Any] = {}
    for name, field in section.model_fields.items():
        if not Affects.of(field).reaches(affects):
            fields[name] = True
        elif isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            fields[name] = _without_effect(field.annotation, affects)
    return fields


def check_slots(key: str, template: str, *names: str) -> None:
    """Raises ValueError for a template whose slots are others than ``names``, each of them at least once."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"{key} has a stray brace: {error}") from None
    slots = {name for _, name, _, _ in parts if name is not None}
    if slots != set(names) or any(spec or kind for _, _, spec, kind in parts):
        # a width in it would fill the memory
        needed = " and ".join(f"{{{name}}}" for name in names)
        raise ValueError(f"{key} needs the slot {needed}, as it stands here, and no other")
