"""The section ``method``: which eraser runs, and its knobs, which the erasers themselves declare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import ConfigDict, model_validator
from pydantic.fields import FieldInfo

from fade.config.section import Section

MAX_KNOB = 10**6
"""Of a whole number; weights are no whole numbers."""


class MethodOptions(Section):
    """What every eraser is told, whether or not it has a use for it."""

    replacement: str = ""
    """The concept that takes the target's place (surgical, uce); empty: the null prompt."""
    anchors: Literal["none", "neighbourhood"] = "none"
    """neighbourhood: a method without neighbours gets FADE's adjacency term too, the fair control."""


class MethodConfig(MethodOptions):
    """The erasing objective and its weights: name, variant, options, and the knobs of all registered erasers.

    An eraser's ``Config`` (fade/erasers) declares its knobs; importing ``fade.erasers`` registers them here.
    A knob that no registered eraser declares is an unknown key."""

    model_config = ConfigDict(extra="allow")

    name: str = "nullspace"
    """A registered method, see `fade methods`."""
    variant: str = "hinge"
    """One of the method's."""

    if TYPE_CHECKING:  # the knobs are attributes, too

        def __getattr__(self, name: str) -> Any: ...

    CONFIGS: ClassVar[list[type[MethodOptions]]] = []
    """The registered erasers' configurations."""

    @classmethod
    def register(cls, config: type[MethodOptions]) -> None:
        """Add the knobs of ``config``. Raises ValueError for one that another eraser declares otherwise."""
        known = cls.knobs()
        for name, field in config.model_fields.items():
            other = known.get(name)
            if other and (other.default, other.annotation) != (field.default, field.annotation):
                raise ValueError(f"{config.__module__} declares {name} otherwise than another eraser")
        if config not in cls.CONFIGS:
            cls.CONFIGS.append(config)

    @classmethod
    def knobs(cls) -> dict[str, FieldInfo]:
        """The registered knobs by name."""
        return {
            name: field
            for config in cls.CONFIGS
            for name, field in config.model_fields.items()
            if name not in MethodOptions.model_fields
        }

    @classmethod
    def known_keys(cls) -> dict[str, FieldInfo]:
        """Every key of the section."""
        return {**super().known_keys(), **cls.knobs()}

    @model_validator(mode="before")
    @classmethod
    def _knobs(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        values = dict(data)
        for config in cls.CONFIGS:
            own = {key: values[key] for key in config.model_fields if key in data}
            values |= config.model_validate(own).model_dump(exclude=set(MethodOptions.model_fields))
        if unknown := [key for key in values if key not in cls.known_keys()]:
            raise ValueError(f"{unknown[0]} is no key of a registered eraser")
        if large := [key for key, value in values.items() if isinstance(value, int) and value > MAX_KNOB]:
            raise ValueError(f"{large[0]} is at most {MAX_KNOB:,}")
        return values
