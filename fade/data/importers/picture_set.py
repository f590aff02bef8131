"""What a data set of pictures is to the importer: how a copy of it is recognised, and where each picture of
it belongs. One set a file; everything else (reading, converting, resuming, writing) is shared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import PurePosixPath
from typing import ClassVar

from fade.data.importers.class_names import ClassName, class_names, find_class
from fade.data.importers.members import STAGE
from fade.data.manifest import HELDOUT, TRAIN
from fade.errors import DataError, UnknownNameError

PICTURES = (".jpg", ".jpeg", ".png", ".webp")
"""Read here; the bytes decide, a wrong suffix is corrected."""
OTHER_PICTURES = (".gif", ".heic", ".heif", ".avif", ".bmp", ".tif", ".tiff", ".jp2", ".svg")
"""Listed as left out."""


@dataclass(frozen=True)
class Archive:
    """An official file: its bytes and the first digits of its sha256 ("" where none is known)."""

    size: int
    sha256: str = ""


@dataclass(frozen=True)
class Facts:
    """What the whole set holds."""

    classes: int
    counts: Mapping[str, int]
    """Split, in the set's own words -> pictures."""
    archives: Mapping[str, Archive] = field(default_factory=dict)


@dataclass(frozen=True)
class Index:
    """The names in a copy."""

    pictures: Sequence[str]
    """Of every file that a suffix calls a picture, in all containers."""
    metadata: Mapping[str, bytes]
    """Lists and tables, by name."""
    has_parquet: bool = False

    def find(self, base: str) -> bytes | None:
        """The content of the metadata file of this base name, wherever it lies. Raises DataError for two that
        differ."""
        found = {content for name, content in self.metadata.items() if PurePosixPath(name).name == base}
        if len(found) > 1:
            what = f"there are two different {base} in this copy."
            raise DataError(what, stage=STAGE, action="name the folder of one copy of the set.")
        return found.pop() if found else None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a picture belongs."""

    label: str
    """The set's own key of its class (`ClassName.label`)."""
    split: str
    """In the set's own words; "" where the copy names none."""


@dataclass(frozen=True)
class Layout:
    """What a copy was recognised as."""

    description: str
    place: Callable[[str], Place | str | None]
    """Picture's name -> its place; a sentence for one that is left out; None for no picture of the set."""
    lacks: tuple[str, ...] = ()
    """What this copy lacks, in sentences."""
    listed: frozenset[str] = frozenset()
    """Keys of the pictures that the set's own lists name; empty where it has none."""
    key: Callable[[str], str] = lambda name: name
    """Picture's name -> what the lists call it; "" for one that they are not about."""
    classes: Sequence[ClassName] = ()
    """Of a set without a table of its own: from the copy itself."""


class PictureSet:
    """One data set."""

    name: ClassVar[str]
    title: ClassVar[str]
    licence: ClassVar[str]
    """Of its pictures, as the manifest has it."""
    terms: ClassVar[str] = ""
    """What whoever imports it accepts, in a sentence; "" where there are none."""
    terms_name: ClassVar[str] = ""
    """What ``--accept`` names them by."""
    facts: ClassVar[Facts | None] = None
    heldout_splits: ClassVar[frozenset[str]] = frozenset({"test", "val", "validation", "valid", "heldout"})
    """Of the set's own words for a split; others train."""
    per_class: ClassVar[int | None] = None
    """Pictures of a class and split that are imported unless the user chooses."""

    def is_metadata(self, name: str) -> bool:
        """Whether the recognition reads a file that is no picture."""
        raise NotImplementedError

    def layout(self, index: Index) -> Layout:
        """Recognise a copy. Raises DataError for one that is not of this set."""
        raise NotImplementedError

    def classes(self, layout: Layout) -> tuple[ClassName, ...]:
        """The classes of the whole set, in its own order."""
        return tuple(layout.classes) or class_names(self.name)

    def house_split(self, split: str) -> str:
        """``train`` or ``heldout`` of the set's own word."""
        return HELDOUT if split in self.heldout_splits else TRAIN

    def not_recognised(self, place: str) -> DataError:
        """The error for a copy in which no picture of the set was found. place: what to name in its place."""
        what = f"no picture of {self.title} was recognised."
        return DataError(what, stage=STAGE, action=f"name {place}.")

    def require_pictures(
        self, index: Index, place: Callable[[str], Place | str | None], instead: str
    ) -> None:
        """Raises DataError (`not_recognised`) for a copy in which nothing has a place."""
        if not any(isinstance(place(name), Place) for name in index.pictures):
            raise self.not_recognised(instead)


@cache
def label_of(set_name: str, text: str) -> str:
    """The label of the class that a mirror's own name for it means (`find_class`); "" for a name of none, or
    of several."""
    try:
        return find_class(set_name, text).label
    except UnknownNameError:
        return ""


def folder_place(
    owner: PictureSet, label: Callable[[str], str | None], splits: Mapping[str, str]
) -> Callable[[str], Place | str | None]:
    """`Layout.place` of a set whose folders are its classes. label: picture's name -> its folder's, None for
    no picture of the set; splits: `folder_key` -> the split, in the set's own words."""
    labels = {one.label for one in class_names(owner.name)}

    def place(name: str) -> Place | str | None:
        found = label(name)
        if found is None:
            return None
        if found not in labels:
            return f"{found} is no class of {owner.title}"
        return Place(found, splits.get(folder_key(name), ""))

    return place


def folder_key(name: str) -> str:
    """``a/b/folder/file`` -> ``folder/file``, as the sets' lists have it."""
    return "/".join(name.split("/")[-2:])


def hub_layout(owner: PictureSet, index: Index) -> Layout:
    """Of a hub's parquet shards: ``split/class/row``. Raises DataError for a class that the table lacks."""
    for name in dict.fromkeys(picture.split("/")[1] for picture in index.pictures):
        if not label_of(owner.name, name):
            what = f"this copy calls a class {name!r}, which is none of {owner.title}."
            raise DataError(what, stage=STAGE, action="name a copy of this set, or use `folder`.")

    def place(name: str) -> Place:
        split, kind, _ = name.split("/", 2)
        return Place(label_of(owner.name, kind), split)

    splits = {picture.split("/", 1)[0] for picture in index.pictures}
    lacks = () if len(splits) > 1 else (f"it has one split, {', '.join(splits)}",)
    return Layout(f"{owner.title}, parquet files of a hub", place, lacks)
