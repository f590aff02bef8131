"""Stanford Dogs (Khosla et al. 2011): 120 breeds, 20,580 pictures, all of them ImageNet's."""

from __future__ import annotations

import re

from fade.data.importers.class_names import class_names
from fade.data.importers.matlab import read_mat, texts
from fade.data.importers.picture_set import Archive, Facts, Index, Layout, PictureSet, Place, hub_layout

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
        """The official archives or an extracted copy, Kaggle's (no lists), or a hub's."""
        classes = class_names(self.name)
        if index.has_parquet:
            return hub_layout(self, index, classes)
        labels = {one.label for one in classes}
        if not any(_label(name) in labels for name in index.pictures):
            raise self.not_recognised("the folder that holds images.tar and lists.tar, or an extracted copy")
        splits: dict[str, str] = {}
        for base in _LISTS:
            if (content := index.find(base)) is not None:
                listed = texts(read_mat(base, content, "file_list")[0])
                splits |= dict.fromkeys(listed, base.partition("_")[0])
        kaggle = any(re.search(r"(?:^|/)images/Images/", name) for name in index.pictures)
        known = splits and all(index.find(base) is not None for base in _LISTS)
        lacks = () if known else ("it has no split: the lists (lists.tar) are missing",)

        def place(name: str) -> Place | str | None:
            label = _label(name)
            if label is None:
                return None
            if label not in labels:
                return f"{label} is no class of {self.title}"
            return Place(label, splits.get(_key(name), "") if known else "")

        title = f"{self.title}, Kaggle's copy" if kaggle else self.title
        return Layout(title, place, lacks, frozenset(splits) if known else frozenset(), _key)


def _label(name: str) -> str | None:
    found = _PICTURE.search(name)
    return found.group(1) if found else None


def _key(name: str) -> str:
    return "/".join(name.split("/")[-2:])
