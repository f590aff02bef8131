"""Append-only chains: every link names the one before it by number and hash. Ours; knows no store.

The store gives each number only once; so of two links that name the same predecessor the lower number counts
and the other is void, and everybody who reads the chain sees the same. An edited or missing link breaks it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self, TypeVar

from fade.errors import FadeError
from fade.utils.hashing import canonical

TAMPERED = "trust nothing in this chain; find out who changed the registry."


@dataclass(frozen=True, kw_only=True)
class LogEntry:
    """One link. ``number``: its place in the store, which is no part of what is hashed."""

    number: int
    by: str
    at: str
    """UTC, ISO 8601. Told, never used for order: a clock may go backwards."""
    previous: int = 0
    previous_sha256: str = ""

    KIND: ClassVar[str] = "link"
    STAGE: ClassVar[str] = "chain"
    SCHEMA: ClassVar[int] = 1
    ERROR: ClassVar[type[FadeError]] = FadeError
    """What a broken chain of this kind raises."""

    def to_json(self) -> str:
        """Canonical JSON of all but the number, which is the store's."""
        return canonical(
            {"schema": self.SCHEMA, **{key: value for key, value in asdict(self).items() if key != "number"}}
        )

    def sha256(self) -> str:
        """What the next link names."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @property
    def mark(self) -> str:
        """``NUMBER:SHA256``, by which the link is remembered elsewhere."""
        return f"{self.number}:{self.sha256()}"

    @classmethod
    def parse(cls, number: int, text: str) -> Self:
        """Raises ERROR for what is no link of this kind and schema."""
        try:
            content = json.loads(text)
            if content.pop("schema") != cls.SCHEMA:
                raise ValueError("another schema")
            return cls(number=number, **cls.checked(content))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise broken(cls, f"{cls.KIND} {number} cannot be read: {error}.") from None

    @classmethod
    def checked(cls, content: dict[str, Any]) -> dict[str, Any]:
        """What a kind of link demands of its content. Raises ValueError."""
        return content


L = TypeVar("L", bound=LogEntry)


def broken(kind: type[LogEntry], what: str) -> FadeError:
    """The error of a chain of this kind that cannot be trusted."""
    return kind.ERROR(what, stage=kind.STAGE, action=TAMPERED)


def follow(links: Sequence[L]) -> tuple[list[L], list[L]]:
    """(the links that count, in order; those that came second). Raises the links' ERROR, naming the one that
    was edited or is missing."""
    counted: list[L] = []
    void: list[L] = []
    head, digest = 0, ""
    for one in sorted(links, key=lambda link: link.number):
        if one.previous > head:
            raise broken(type(one), f"{one.KIND} {one.previous} is missing: {one.number} follows it.")
        if one.previous < head:
            void.append(one)
            continue
        if one.previous_sha256 != digest:
            raise broken(
                type(one), f"{one.KIND} {head or one.number} was edited: {one.number} names another hash."
            )
        counted.append(one)
        head, digest = one.number, one.sha256()
    return counted, void
