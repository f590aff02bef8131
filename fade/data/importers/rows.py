"""The pictures of an import: how many of each class, in which split, under which file name."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from fade.data.importers.class_names import ClassName
from fade.data.importers.members import Member
from fade.data.importers.options import ImportOptions, Split
from fade.data.importers.picture_set import PictureSet, Place
from fade.data.manifest import HELDOUT, TRAIN
from fade.data.vocabulary import slug

Placed = tuple[int, Member, Place]
"""Container, picture, and where it belongs."""


@dataclass(frozen=True, slots=True)
class Row:
    """A picture that will be read."""

    container: int
    name: str
    """In its container."""
    size: int
    label: str
    own_split: str
    """In the set's own words; "" where the copy names none."""
    split: str
    """``train`` or ``heldout``."""
    stem: str
    """Where it goes, below the data set's folder and without a suffix."""
    offset: int | None
    """`fade.data.importers.members.Member.offset`."""


def rows_of(
    owner: PictureSet, classes: Sequence[ClassName], placed: Iterable[Placed], options: ImportOptions
) -> list[Row]:
    """The pictures that are imported, in the order of the containers."""
    concepts = {one.label: slug(one.concept) for one in classes}
    by_group: dict[tuple[str, str], list[Placed]] = defaultdict(list)
    for item in placed:
        by_group[item[2].label, item[2].split].append(item)
    by_folder: dict[str, list[Row]] = defaultdict(list)
    for (label, own), group in by_group.items():
        ranked = sorted(group, key=lambda one: _rank(0, one[1].name))[: options.per_class]
        splits = _split(ranked, options.split) if options.split else {}
        for container, member, _ in ranked:
            split = splits[member.name] if options.split else owner.house_split(own)
            folder = f"{split}/{concepts[label]}"
            row = Row(container, member.name, member.size, label, own, split, folder, member.offset)
            by_folder[folder].append(row)
    rows = [row for folder, some in by_folder.items() for row in _with_stems(folder, some)]
    return sorted(rows, key=lambda row: (row.container, row.name))


def _with_stems(folder: str, rows: Sequence[Row]) -> Iterator[Row]:
    """The rows of one folder, each under a name of its own, also on a disk that knows no case."""
    counts = Counter(_stem(row.name).casefold() for row in rows)
    for row in rows:
        stem = _stem(row.name)
        apart = _apart(row) if counts[stem.casefold()] > 1 else ""
        yield replace(row, stem=f"{folder}/{stem}{apart}")


def _split(group: Sequence[Placed], split: Split) -> dict[str, str]:
    """Name -> ``train`` or ``heldout``: a share of one class, drawn by the hash of seed and name; of two
    pictures and more each split has one."""
    ranked = sorted((one.name for _, one, _ in group), key=lambda name: _rank(split.seed, name))
    n = round(split.share * len(ranked))
    n = min(max(n, 1), len(ranked) - 1) if len(ranked) > 1 else len(ranked)
    return {name: TRAIN if i < n else HELDOUT for i, name in enumerate(ranked)}


def _rank(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed}/{name}".encode()).hexdigest()


def _stem(name: str) -> str:
    """The base name without its suffix, in letters that any disk can hold."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", PurePosixPath(name).stem).strip("-.") or "picture"
    return plain[:100]


def _apart(row: Row) -> str:
    return "-" + hashlib.sha256(row.name.encode()).hexdigest()[:8]
