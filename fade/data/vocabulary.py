"""Concepts and vocabularies: names, families, styles, and the prompts made of them."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fade.errors import DataError, UnknownNameError
from fade.utils.reading import TEXT, read_text

TOGETHER = " + "
"""Between the names of targets that are erased together."""


@dataclass(frozen=True)
class Concept:
    """One thing that a prompt can name."""

    name: str
    family: str


@dataclass(frozen=True)
class Vocabulary:
    """An ordered set of concepts and the styles of their pictures. The order is the data set's and is hashed.
    Raises DataError for a name that appears twice."""

    concepts: tuple[Concept, ...]
    styles: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, count in Counter(self.names).items():
            if count > 1:
                raise DataError(f"concept {name!r} appears twice in the vocabulary.", stage="vocabulary")

    @property
    def names(self) -> tuple[str, ...]:
        """The concepts' names, in vocabulary order."""
        return tuple(c.name for c in self.concepts)

    def __len__(self) -> int:
        return len(self.concepts)

    def index(self, name: str, stage: str = "target") -> int:
        """Position of ``name``. Raises UnknownNameError with the nearest names."""
        try:
            return self.names.index(name)
        except ValueError:
            raise UnknownNameError("concept", name, self.names, stage=stage) from None

    def family(self, name: str) -> str:
        """The family of ``name``. Raises UnknownNameError."""
        return self.concepts[self.index(name)].family

    @classmethod
    def from_file(cls, path: Path) -> Vocabulary:
        """From a manifest.csv, or from a text file with one concept a line (``name`` or ``name,family``).
        Raises DataError when the file cannot be read or holds no concept."""
        if path.suffix == ".csv":
            from fade.data.manifest import read_manifest

            frame = read_manifest(path)
            pairs = list(dict.fromkeys(zip(frame["concept"], frame["family"], strict=True)))
            styles = tuple(dict.fromkeys(frame.loc[frame["split"] == "train", "style"]))
            return cls(tuple(Concept(n, f) for n, f in pairs), styles)
        try:
            lines = [line.strip() for line in read_text(path, TEXT).splitlines()]
        except OSError as error:
            action = "name a text file with one concept a line, or a manifest.csv."
            what = f"cannot read the vocabulary {path}: {error}."
            raise DataError(what, stage="vocabulary", action=action) from error
        rows = [line.partition(",") for line in lines if line and not line.startswith("#")]
        if not rows:
            what = f"{path} names no concept."
            raise DataError(what, stage="vocabulary", action="write one concept a line.")
        return cls(tuple(Concept(name.strip(), family.strip()) for name, _, family in rows))


def fill(template: str, concept: str, style: str | None = None) -> str:
    """``"a {concept}"`` -> ``"a panda in the noto style"``; an empty concept gives the null prompt ``""``."""
    if not concept:
        return ""
    text = template.format(concept=concept)
    return f"{text} in the {style} style" if style else text


def prompts(template: str, names: Sequence[str]) -> list[str]:
    """One prompt a concept."""
    return [fill(template, name) for name in names]


def slug(name: str) -> str:
    """A name as part of a file name: ``"Grinning cat"`` -> ``"grinning-cat"``.

    Letters that ASCII lacks are left out; a hash of the name then keeps two such names apart.
    """
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if plain and not any(c.isalnum() and not c.isascii() for c in name):
        return plain
    return "-".join(part for part in (plain, hashlib.sha256(name.encode()).hexdigest()[:8]) if part)
