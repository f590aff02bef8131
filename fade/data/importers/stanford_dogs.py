"""Stanford Dogs (Khosla et al. 2011): 120 breeds, 20,580 pictures, all of them ImageNet's."""

from __future__ import annotations

import re

from fade.data.importers.matlab import read_mat, texts
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

_PICTURE = re.compile(r"(?:^|/)(n\d{8}-[^/]+)/([^/]+\.jpe?g)$", re.IGNORECASE)
_LISTS = ("train_list.mat", "test_list.mat")


class StanfordDogs(PictureSet):
    """``Images/n02085620-Chihuahua/n02085620_10074.jpg``; the split stands in lists.tar."""

    name, title = "dogs", "Stanford Dogs"
    licence, terms_name = "LicenseRef-ImageNet", "imagenet-terms"
    terms = (
        "the pictures are ImageNet's: non-commercial research and education only, and they may not be "
        "passed on (https://image-net.org/download)"
    )
    facts = Facts(
        120,
        {"train": 12_000, "test": 8_580},
        {
            "images.tar": Archive(793_579_520, "a443fc2f"),
            "annotation.tar": Archive(21_852_160, "662ed36f"),
            "lists.tar": Archive(481_280, "34b47cac"),
        },
    )

    def is_metadata(self, name: str) -> bool:
        """The two lists."""
        return name.rsplit("/", 1)[-1] in _LISTS

    def layout(self, index: Index) -> Layout:
        """The official archives or an extracted copy, Kaggle's (no lists), or a hub's. Raises DataError."""
        if index.has_parquet:
            return hub_layout(self, index)
        splits: dict[str, str] = {}
        lists = {base: index.find(base) for base in _LISTS}
        for base, content in lists.items():
            if content is not None:
                listed = texts(read_mat(base, content, "file_list")[0])
                splits |= dict.fromkeys(listed, base.partition("_")[0])
        if None in lists.values():
            splits = {}
        place = folder_place(self, _label, splits)
        instead = "the folder that holds images.tar and lists.tar, or an extracted copy"
        self.require_pictures(index, place, instead)
        kaggle = any(re.search(r"(?:^|/)images/Images/", name) for name in index.pictures)
        title = f"{self.title}, Kaggle's copy" if kaggle else self.title
        lacks = () if splits else ("it has no split: the lists (lists.tar) are missing",)
        return Layout(title, place, lacks, frozenset(splits), folder_key)


def _label(name: str) -> str | None:
    found = _PICTURE.search(name)
    return found.group(1) if found else None
