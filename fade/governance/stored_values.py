"""Values that somebody else may have written into the registry: parsed without trust. Ours."""

from __future__ import annotations

from typing import Any, TypeVar

from fade.errors import RegistryError
from fade.utils import parsing

T = TypeVar("T", dict[str, Any], list[Any])
LONGEST = 1_000_000
"""Characters of a value; the registry's own limit is lower."""
DIGITS = 18
ACTION = "it was not written by this program; find out who changed the registry, and delete or restore it."


def parse_json(text: str, what: str, kind: type[T], *, stage: str = "registry") -> T:
    """The JSON object or array (``kind``: dict or list) in ``text``.

    Raises RegistryError, which names ``what`` (a tag and its version, say), for anything else: other JSON,
    a key twice, NaN, text that is no UTF-8, too long or nested too deeply."""
    try:
        if len(text) > LONGEST:
            raise ValueError(f"longer than {LONGEST} characters")
        value = parsing.parse_json(text)
        if not isinstance(value, kind):
            raise TypeError("an object is needed" if kind is dict else "an array is needed")
    except (ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RegistryError(
            f"{what} cannot be read: {reason}.", stage=stage, action=ACTION, tampered=True
        ) from None
    return value


def parse_names(text: str, what: str, *, stage: str = "registry") -> list[str]:
    """The JSON array of strings in ``text``; raises as `parse_json`."""
    names = parse_json(text, what, list, stage=stage)
    if not all(isinstance(name, str) for name in names):
        raise RegistryError(
            f"{what} cannot be read: names are needed.", stage=stage, action=ACTION, tampered=True
        )
    return names


def parse_number(text: str, what: str, *, stage: str = "registry") -> int:
    """The whole number in ``text``, without a sign. Raises RegistryError, which names ``what``."""
    if not (text.isascii() and text.isdigit() and len(text) <= DIGITS):
        problem = f"{what} is no number: {text[:40]!r}."
        raise RegistryError(problem, stage=stage, action=ACTION, tampered=True)
    return int(text)
