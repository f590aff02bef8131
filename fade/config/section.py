"""What every section of params.yaml is."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic.fields import FieldInfo

Positive = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, lt=1)]


class Section(BaseModel):
    """A frozen section of params.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, strict=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch(cls, value: Any) -> Any:
        if isinstance(
            value, bool
        ):  # YAML reads yes, on and true alike, and pydantic would count them as 1; no key is a switch
            raise ValueError("a yes or no is no value of this key")
        return value

    @classmethod
    def known_keys(cls) -> dict[str, FieldInfo]:
        """Every key of the section, as params.yaml spells it."""
        return {field.alias or name: field for name, field in cls.model_fields.items()}
