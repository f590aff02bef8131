"""Append-only logs: each entry names its predecessor by number and hash. Rules only, no store. Ours.

Optimistic concurrency: the store gives each number once. Of two entries that name the same predecessor the
lower number counts and the other is void, and every reader decides alike. An edited or missing entry makes
the log untrusted. The anchor of the last entry, recorded outside of the log, shows that its end was cut off.
Signatures show who wrote an entry; which of them count decides the caller (fade/governance/keyring.py)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import ClassVar, NamedTuple, Self, TypeVar

from fade.errors import FadeError
from fade.governance.stored_values import parse_json
from fade.utils.hashing import canonical

_TYPES = {"str": str, "int": int, "bool": bool, "Mapping": dict, "Sequence": list}
"""Annotation of a field, up to its bracket -> what it is in JSON."""


@dataclass(frozen=True, kw_only=True)
class LogEntry:
    """One entry. ``number``: its place in the store, not part of its text."""

    number: int
    by: str
    at: str
    """UTC, ISO 8601; informational only, as a clock may go backwards."""
    previous: int = 0
    """Number of the predecessor; 0 for the first entry."""
    previous_sha256: str = ""

    KIND: ClassVar[str] = "entry"
    """What an error calls an entry, and the tag that holds its text in the store."""
    STAGE: ClassVar[str] = "log"
    SCHEMA: ClassVar[int] = 1
    ERROR: ClassVar[type[FadeError]] = FadeError
    """Raised for an untrusted log of this kind."""
    ACTION: ClassVar[str] = "trust nothing in this chain; find out who changed the registry."
    HASHED: ClassVar[bool] = True
    """Whether entries name the hash of their predecessor, or its number alone."""
    CHOICES: ClassVar[Mapping[str, Collection[str]]] = {}
    """Field -> the values that it may have."""
    KEYS: ClassVar[Mapping[str, str]] = {}
    """Field -> its key in the text, where that is another."""
    UNWRITTEN: ClassVar[Collection[str]] = ("number",)
    """Fields that are not in the text."""
    ADDED: ClassVar[Collection[str]] = ()
    """Fields that are not in the text where they are empty: entries from before them keep their hash."""

    def to_json(self) -> str:
        """The entry's text: canonical JSON."""
        left_out = {*self.UNWRITTEN, *(key for key in self.ADDED if not getattr(self, key))}
        written = {key: value for key, value in asdict(self).items() if key not in left_out}
        return canonical(
            {"schema": self.SCHEMA, **{self.KEYS.get(key, key): written[key] for key in written}}
        )

    def sha256(self) -> str:
        """Hash of the text, as the next entry names it."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @property
    def ordered(self) -> bool:
        """Whether the entry takes part in the order; one that does not neither counts nor is void."""
        return True

    @property
    def witnessed(self) -> bool:
        """Whether the witness (fade/governance/witness.py) records the entry as the log's head."""
        return self.ordered

    @property
    def revokes(self) -> str:
        """sha256 of the adapter that the entry revokes; else empty."""
        return ""

    @property
    def anchor(self) -> str:
        """``NUMBER:SHA256``, by which an entry is remembered outside of its log."""
        return f"{self.number}:{self.sha256()}"

    @classmethod
    def parse(cls, number: int, text: str) -> Self:
        """Raises ERROR for a text that is no entry of this kind and schema, whoever wrote it."""
        try:
            content = parse_json(text, "its text", dict)
            if content.pop("schema") != cls.SCHEMA:
                raise ValueError("another schema")
            for field, choices in cls.CHOICES.items():
                if content[field] not in choices:
                    raise ValueError(f"another {field}")
            renamed = {field: content.pop(key) for field, key in cls.KEYS.items()}
            entry = cls(number=number, **content, **renamed)
            for one in fields(cls):
                kind = _TYPES[str(one.type).partition("[")[0]]
                value = getattr(entry, one.name)
                if one.name in {*content, *renamed} and type(value) is not kind:
                    raise TypeError(f"{one.name} is no {kind.__name__}")
            return entry
        except FadeError as error:
            reason = error.what.removesuffix(".")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            reason = f"{error}"
        raise _untrusted(cls, f"{cls.KIND} {number} cannot be read: {reason}.")


class StoredEntry(NamedTuple):
    """An entry as a store holds it."""

    number: int
    text: str
    signature: str = ""


E = TypeVar("E", bound=LogEntry)


def _untrusted(kind: type[LogEntry], what: str) -> FadeError:
    return kind.ERROR(what, stage=kind.STAGE, action=kind.ACTION, tampered=True)


def verify_log(entries: Sequence[E]) -> tuple[list[E], list[E]]:
    """(entries that count, in order; void entries, whose predecessor has another successor). Raises the
    kind's ERROR, which names the entry that was edited or is missing."""
    counted: list[E] = []
    void: dict[int, E] = {}
    head, digest = 0, ""
    for entry in sorted((one for one in entries if one.ordered), key=lambda entry: entry.number):
        kind = type(entry)
        if entry.previous < head or entry.previous in void:
            void[entry.number] = entry
        elif entry.previous > head:
            raise _untrusted(kind, f"{kind.KIND} {entry.previous} is missing: {entry.number} follows it.")
        elif kind.HASHED and entry.previous_sha256 != digest:
            edited = f"{kind.KIND} {head or entry.number} was edited"
            raise _untrusted(kind, f"{edited}: {entry.number} names another hash.")
        else:
            counted.append(entry)
            head, digest = entry.number, entry.sha256()
    return counted, list(void.values())


def verify_anchor(
    kind: type[E], counted: Sequence[E], anchor: str, log: str, where: str = "the registry"
) -> None:
    """Raises the kind's ERROR, about ``log``, when the entry of an ``anchor`` does not count. where: who
    remembers it."""
    if not any(entry.anchor == anchor for entry in counted):
        number = anchor.split(":")[0]
        what = f"{log}: {kind.KIND} {number} was edited, or is missing; {where} remembers it."
        raise _untrusted(kind, what)


Verify = Callable[[str, str, StoredEntry], None]
"""(log, kind, entry) -> None. Raises SignatureError for an entry whose signature does not count."""


def read_log(
    kind: type[E],
    log: str,
    stored: Sequence[StoredEntry],
    *,
    anchors: Iterable[tuple[str, str]] = (),
    verify: Verify | None = None,
) -> tuple[list[E], list[E]]:
    """(entries that count, in order; void entries) of the log ``log``.

    anchors: (who remembers, the anchor that must count); empty ones are left out. verify: the check of every
    ordered entry's signature. Raises the kind's ERROR for an edited, missing or cut entry, SignatureError."""
    entries = [kind.parse(one.number, one.text) for one in stored]
    counted, void = verify_log(entries)
    for where, anchor in anchors:
        if anchor:
            verify_anchor(kind, counted, anchor, log, where)
    if verify is not None:
        for entry, one in zip(entries, stored, strict=True):
            if entry.ordered:
                verify(log, kind.KIND, one)
    return counted, void
