"""Names and free texts as fields of pydantic's models: the rules are those of `fade.utils`."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from fade.utils.names import normal_name
from fade.utils.text import LONGEST_PERSON, free_text


def _person(text: str) -> str:
    return _given(free_text(text, longest=LONGEST_PERSON, lines=False))


def _given(text: str) -> str:
    if not text:
        raise ValueError("it is blank")
    return text


Name = Annotated[str, AfterValidator(normal_name)]
"""A concept, a family, a style."""
OptionalName = Annotated[str, AfterValidator(lambda text: normal_name(text) if text else text)]
"""As `Name`, or empty."""
FreeText = Annotated[str, AfterValidator(free_text)]
"""A reason, a note."""
GivenText = Annotated[str, Field(min_length=1), AfterValidator(free_text), AfterValidator(_given)]
"""As `FreeText`, and not blank."""
ShortText = Annotated[str, AfterValidator(lambda text: free_text(text, longest=LONGEST_PERSON, lines=False))]
"""A word or two on one line, or empty."""
Person = Annotated[str, Field(min_length=1), AfterValidator(_person)]
"""Who did something or wants it."""
