"""Names and free texts as fields of pydantic's models: the rules are those of `fade.utils`."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from fade.utils.names import normal_name
from fade.utils.text import LONGEST_PERSON, free_text


def _person(text: str) -> str:
    return free_text(text, longest=LONGEST_PERSON, lines=False)


Name = Annotated[str, AfterValidator(normal_name)]
"""A concept, a family, a style."""
OptionalName = Annotated[str, AfterValidator(lambda text: normal_name(text) if text else text)]
"""As `Name`, or empty."""
FreeText = Annotated[str, AfterValidator(free_text)]
"""A reason, a note."""
GivenText = Annotated[str, AfterValidator(free_text), Field(min_length=1)]
"""As `FreeText`, and not blank."""
Person = Annotated[str, AfterValidator(_person), Field(min_length=1)]
"""Who did something or wants it."""
