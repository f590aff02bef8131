"""Somebody's own pictures: one folder a concept."""

from __future__ import annotations

import unicodedata
from collections import Counter

from fade.data.importers.class_names import ClassName
from fade.data.importers.members import STAGE
from fade.data.importers.picture_set import (
    OTHER_PICTURES,
    PICTURES,
    Index,
    Layout,
    PictureSet,
    Place,
)
from fade.errors import DataError
from fade.utils.names import normal_name

_SPLITS = ("train", "training", "trainval", "val", "valid", "validation", "test", "heldout")
_ROOTS = ("images", "pictures", "data", "jpg")


class ImageFolder(PictureSet):
    """``[train|test/][FAMILY/]CONCEPT/picture.jpg``: the folder's name is the concept, ``_`` a blank; the
    folder above it, where there is one, the family."""

    name, title, licence = "folder", "a folder of pictures", ""
    heldout_splits = frozenset({"test", "heldout"})

    def is_metadata(self, name: str) -> bool:
        """None."""
        return False

    def layout(self, index: Index) -> Layout:
        """One folder a concept, at any nesting below one common folder. Raises DataError."""
        names = [name for name in index.pictures if name.lower().endswith((*PICTURES, *OTHER_PICTURES))]
        if not names:
            raise self.not_recognised("a folder that holds one folder of pictures for each concept")
        root = _common(names)
        parts = {name: name.split("/")[root:] for name in names}
        if loose := [name for name, path in parts.items() if len(path) < 2]:
            what = f"{loose[0]!r} lies in no folder of a concept ({len(loose):,} such pictures)."
            raise DataError(what, stage=STAGE, action="put each picture in a folder named for what it shows.")
        splits = {path[0].casefold() for path in parts.values()}
        has_splits = splits <= set(_SPLITS) and all(len(path) > 2 for path in parts.values())
        found: dict[str, Place] = {}
        families: dict[str, Counter[str]] = {}
        for name, path in parts.items():
            split, *rest = path if has_splits else ["", *path]
            label = unicodedata.normalize("NFC", rest[-2])
            family = unicodedata.normalize("NFC", rest[-3]) if len(rest) > 2 else label
            families.setdefault(label, Counter())[family] += 1
            found[name] = Place(label, _house(split, splits))
        several = {label: sorted(counts) for label, counts in families.items() if len(counts) > 1}
        if several:
            label, homes = next(iter(several.items()))
            what = f"the concept {label!r} lies in the families {homes}."
            raise DataError(what, stage=STAGE, action="move its pictures into one folder.")
        classes = tuple(
            ClassName(label, "", _concept(label), _concept(label), (), _concept(next(iter(counts))))
            for label, counts in sorted(families.items())
        )

        def place(name: str) -> Place | str | None:
            if name.lower().endswith(OTHER_PICTURES):
                return f"a {name.rsplit('.', 1)[-1].upper()} file is not read here"
            return found.get(name)

        lacks = () if has_splits else ("it has no split",)
        return Layout(f"{self.title}, {len(classes)} concepts", place, lacks, classes=classes)


def _common(names: list[str]) -> int:
    """How many folders all the pictures lie below, as far as these name no concept: of more than one folder
    the last common one is no concept either."""
    split = [name.split("/")[:-1] for name in names]
    common = 0
    while all(len(path) > common + 1 for path in split) and len({path[common] for path in split}) == 1:
        if split[0][common].casefold() in _SPLITS:
            break
        common += 1
    return common


def _house(split: str, splits: set[str]) -> str:
    """The split's word; of a copy with a test split its validation pictures train."""
    word = split.casefold()
    if word.startswith("val"):
        return "train" if splits & {"test", "heldout"} else "heldout"
    return "train" if word.startswith("train") else word


def _concept(label: str) -> str:
    """A folder's name as a concept: ``border_collie`` -> ``border collie``; one that can be no concept stays
    as it is, and is refused with all others when the import is planned."""
    text = " ".join(label.replace("_", " ").split())
    try:
        return normal_name(text)
    except ValueError:
        return label
