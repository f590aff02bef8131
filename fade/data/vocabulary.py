"""Concepts and vocabularies: names, families, styles, and the prompts made of them."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fade.errors import DataError, UnknownNameError
from fade.utils.names import TOGETHER, lookalikes, normal_name, skeleton
from fade.utils.reading import TEXT, read_text

__all__ = ["TOGETHER", "Concept", "Vocabulary", "fill", "prompts", "slug"]
LONGEST_SLUG = 100
"""Characters of a slug: with what a file or model name adds it stays below 255 bytes."""


@dataclass(frozen=True)
class Concept:
    """One thing that a prompt can name."""

    name: str
    family: str


@dataclass(frozen=True)
class Vocabulary:
    """An ordered set of concepts and the styles of their pictures. The order is the data set's and is hashed.

    Every name of the data enters here. Raises DataError for one that appears twice, that is not in its normal
    form (`fade.utils.names.normal_name`: pictures, labels and prompts have the spelling of the data), or that
    looks like another or has its slug."""

    concepts: tuple[Concept, ...]
    styles: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, count in Counter(self.names).items():
            if count > 1:
                raise DataError(f"concept {name!r} appears twice in the vocabulary.", stage="vocabulary")
        families = (concept.family for concept in self.concepts if concept.family)
        for kind, names in (("concept", self.names), ("family", families), ("style", self.styles)):
            _check_names(kind, names)
        _check_apart("concept", self.names)
        _check_apart("style", self.styles)

    @property
    def names(self) -> tuple[str, ...]:
        """The concepts' names, in vocabulary order."""
        return tuple(c.name for c in self.concepts)

    def __len__(self) -> int:
        return len(self.concepts)

    def index(self, name: str, stage: str = "target") -> int:
        """Position of ``name``. Raises UnknownNameError with the nearest names, or the one it looks like."""
        try:
            return self.names.index(name)
        except ValueError:
            error = UnknownNameError("concept", name, self.names, stage=stage)
            for one in self.names:
                if skeleton(one) == skeleton(name):  # another case or width, or letters of another script
                    error.action = f"did you mean {one!r}?"
            raise error from None

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
            lines = [line.strip(" \t\r") for line in read_text(path, TEXT).removeprefix("\ufeff").split("\n")]
        except OSError as error:
            action = "name a text file with one concept a line, or a manifest.csv."
            what = f"cannot read the vocabulary {path}: {error}."
            raise DataError(what, stage="vocabulary", action=action) from error
        rows = [line.partition(",") for line in lines if line and not line.startswith("#")]
        if not rows:
            what = f"{path} names no concept."
            raise DataError(what, stage="vocabulary", action="write one concept a line.")
        return cls(tuple(Concept(name.strip(" "), family.strip(" ")) for name, _, family in rows))


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

    Letters that ASCII lacks are left out, and a long name is cut; a hash of the name then keeps two such
    names apart. Never empty, and no more than LONGEST_SLUG characters, all of them ``a-z``, ``0-9``, ``-``.
    """
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    beyond = any(c.isalnum() and not c.isascii() for c in name)
    if plain and not beyond and len(plain) <= LONGEST_SLUG:
        return plain
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:8]
    return "-".join(part for part in (plain[: LONGEST_SLUG - 9].strip("-"), digest) if part)


def _check_names(kind: str, names: Iterable[str]) -> None:
    for name in dict.fromkeys(names):
        try:
            normal = normal_name(name)
        except ValueError as error:
            what, action = f"the {kind} {name!r}: {error}.", "correct the name where the data come from."
            raise DataError(what, stage="vocabulary", action=action) from None
        if normal != name:
            what, action = f"the {kind} {name!r} is not in its normal form.", f"write it as {normal!r}."
            raise DataError(what, stage="vocabulary", action=action)


def _check_apart(kind: str, names: Sequence[str]) -> None:
    pair = lookalikes(names)
    if pair is None and len({slug(name) for name in names}) < len(set(names)):
        by_slug: dict[str, str] = {}
        pair = next((by_slug[slug(n)], n) for n in names if by_slug.setdefault(slug(n), n) != n)
    if pair is not None:
        what = f"the {kind}s {pair[0]!a} and {pair[1]!a} cannot be told apart."
        raise DataError(what, stage="vocabulary", action="give one of them another name, or make them one.")
