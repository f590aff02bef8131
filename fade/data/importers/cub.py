"""CUB-200-2011 (Wah et al. 2011): 200 birds, 11,788 pictures."""

from __future__ import annotations

import re

from fade.data.importers.members import STAGE
from fade.data.importers.picture_set import (
    Archive,
    Facts,
    Index,
    Layout,
    PictureSet,
    folder_key,
    folder_place,
    hub_layout,
)
from fade.errors import DataError

_PICTURE = re.compile(r"(?:^|/)(\d{3}\.[^/]+)/([^/]+\.jpe?g)$", re.IGNORECASE)
_LISTS = ("images.txt", "train_test_split.txt", "image_class_labels.txt", "classes.txt")


class Cub(PictureSet):
    """``CUB_200_2011/images/001.Black_footed_Albatross/Black_Footed_Albatross_0001_796111.jpg``; four text
    files. The class is the folder's, never the file's, whose capitals differ."""

    name, title = "cub", "CUB-200-2011"
    licence, terms_name = "LicenseRef-CUB", "cub-terms"
    terms = "non-commercial research and education only; its authors do not own the pictures"
    facts = Facts(
        200,
        {"train": 5_994, "test": 5_794},
        {
            "CUB_200_2011.tgz": Archive(1_150_585_339, "0c685df5"),
            "segmentations.tgz": Archive(39_272_883, "dc77f6cf"),
        },
    )

    def is_metadata(self, name: str) -> bool:
        """The four text files."""
        return name.rsplit("/", 1)[-1] in _LISTS

    def layout(self, index: Index) -> Layout:
        """The official archive, an extracted copy or by-class folders, or a hub's. Raises DataError."""
        if index.has_parquet:
            return hub_layout(self, index)
        images, splits = index.find("images.txt"), index.find("train_test_split.txt")
        known: dict[str, str] = {}
        if images is not None and splits is not None:
            names, trains = _pairs("images.txt", images), _pairs("train_test_split.txt", splits)
            if names.keys() != trains.keys():
                what = f"images.txt has {len(names):,} pictures, train_test_split.txt {len(trains):,}."
                raise DataError(what, stage=STAGE, action="fetch the archive again.")
            known = {names[i]: "train" if trains[i] == "1" else "test" for i in names}
        place = folder_place(self, _label, known)
        self.require_pictures(index, place, "CUB_200_2011.tgz, or an extracted copy")
        lacks = () if known else ("it has no split: images.txt and train_test_split.txt are missing",)
        return Layout(self.title, place, lacks, frozenset(known), folder_key)


def _pairs(file: str, content: bytes) -> dict[str, str]:
    """``<id> <value>`` of each line. Raises DataError, which names the line."""
    pairs: dict[str, str] = {}
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        if not line.strip():
            continue
        key, _, value = line.strip().partition(" ")
        if not key.isdigit() or not value or key in pairs:
            what = f"{file}, line {number}: {line[:80]!r} is no new number and its value."
            raise DataError(what, stage=STAGE, action="fetch the archive again.")
        pairs[key] = value
    return pairs


def _label(name: str) -> str | None:
    found = _PICTURE.search(name)
    return found.group(1) if found and "segmentations/" not in name else None
