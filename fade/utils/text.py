"""Free text of people: what may be stored (`free_text`), and how it is shown (`visible`); tables in Markdown.
Ours."""

from __future__ import annotations

import unicodedata
from collections.abc import Container, Iterable, Sequence

from fade.errors import UsageError

LONGEST = 2000
"""Characters of a reason, an override, a note."""
LONGEST_PERSON = 200
"""Characters of the name of a person or a worker."""
_INVISIBLE_CATEGORIES = frozenset({"Cc", "Cf", "Co", "Cs", "Zl", "Zp"})
"""Control characters (C0, DEL, C1 with NEL), formats (bidi overrides, zero width, BOM), private use (a font
draws its own), lone surrogates, line and paragraph separators."""
_IGNORABLE = (
    *((0x034F, 0x034F), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x2065, 0x2065)),
    *((0x2800, 0x2800), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFFA0, 0xFFA0), (0xE0000, 0xE0FFF)),
    *((0xFFF0, 0xFFFC), (0xFDD0, 0xFDEF)),
    *((plane + 0xFFFE, plane + 0xFFFF) for plane in range(0, 0x110000, 0x10000)),
)
"""First and last of further characters that nothing is drawn for (Unicode's Default_Ignorable_Code_Point), of
the stand-in for an object, and of those that are none (noncharacters)."""


def is_invisible(character: str) -> bool:
    """Whether a character draws nothing of its own, or changes how others are drawn."""
    code = ord(character)
    if 0x20 <= code < 0x7F:
        return False
    ignorable = any(first <= code <= last for first, last in _IGNORABLE)
    return ignorable or unicodedata.category(character) in _INVISIBLE_CATEGORIES


def visible(text: str, *, lines: bool = False) -> str:
    """``text`` with every invisible character as an escape (``\\x1b``, ``\\u202e``), line breaks too unless
    ``lines``: it can neither move a cursor nor turn the direction of what follows."""
    if text.isascii() and text.replace("\n", "" if lines else "\n").isprintable():
        return text
    return "".join(escaped(one) if is_invisible(one) and not (lines and one == "\n") else one for one in text)


def escaped(character: str) -> str:
    """A character as Python writes it in a string: ``\\\\n``, ``\\\\x9b``, ``\\\\u200b``."""
    return character.encode("unicode_escape").decode("ascii")


def free_text(text: str, *, longest: int = LONGEST, lines: bool = True) -> str:
    """``text`` without outer blanks. ``lines``: line breaks and tabs are allowed. Raises ValueError for one
    that is longer than ``longest`` characters or holds an invisible character."""
    text = text.strip(" \r\n\t" if lines else " ")
    if len(text) > longest:
        raise ValueError(f"at most {longest:,} characters are allowed, these are {len(text):,}")
    allowed = "\r\n\t\u200d\ufe0f" if lines else "\u200d\ufe0f"  # the latter two are parts of emoji
    for place, one in enumerate(text, start=1):
        if one not in allowed and is_invisible(one):
            raise ValueError(
                f"character {place} is {escaped(one)}, which is invisible or a control character"
            )
    return text


def checked_text(field: str, text: str, *, stage: str, longest: int = LONGEST, lines: bool = True) -> str:
    """As `free_text`, for a text that the user gave as ``field``. Raises UsageError, which names the field
    and the limit; also for a text that is given and blank."""
    try:
        checked = free_text(text, longest=longest, lines=lines)
    except ValueError as error:
        action = f"write {field} shorter, as plain text."
        raise UsageError(f"{field}: {error}.", stage=stage, action=action) from None
    if text and not checked:
        raise UsageError(
            f"{field} is blank.", stage=stage, action=f"write {field} in words, or leave it out."
        )
    return checked


def markdown_table(
    head: Sequence[str], rows: Iterable[Sequence[str]], texts: Container[int] = (0,)
) -> list[str]:
    """The lines of a table in Markdown. texts: columns of text; the others are numbers, set to the right."""
    rule = "|".join("---" if column in texts else "--:" for column in range(len(head)))
    return [f"| {' | '.join(head)} |", f"|{rule}|", *(f"| {' | '.join(row)} |" for row in rows)]
