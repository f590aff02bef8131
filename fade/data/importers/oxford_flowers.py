"""Oxford Flowers-102 (Nilsback and Zisserman 2008): 102 flowers, 8,189 pictures; the test split is the
largest."""

from __future__ import annotations

import re

from fade.data.importers.matlab import numbers, read_mat
from fade.data.importers.members import STAGE
from fade.data.importers.picture_set import Archive, Facts, Index, Layout, PictureSet, Place, hub_layout
from fade.errors import DataError

_PICTURE = re.compile(r"(?:^|/)image_(\d{5})\.jpe?g$", re.IGNORECASE)
_BY_CLASS = re.compile(r"(?:^|/)(train|valid|test)/(?:(\d{1,3})/)?image_\d{5}\.jpe?g$", re.IGNORECASE)
_SPLITS = {"trnid": "train", "valid": "valid", "tstid": "test"}


class OxfordFlowers(PictureSet):
    """``jpg/image_00001.jpg``; labels and splits in two .mat files, the names in none."""

    name, title = "flowers", "Oxford Flowers-102"
    licence = "LicenseRef-unstated"
    terms_name, terms = (
        "unstated-terms",
        "its authors state no licence: for research, and not to be passed on",
    )
    heldout_splits = frozenset({"test"})  # valid trains: FADE's judge is told train from test alone
    facts = Facts(
        102,
        {"train": 1_020, "valid": 1_020, "test": 6_149},
        {
            "102flowers.tgz": Archive(344_862_509, "2d01ecc8"),
            "imagelabels.mat": Archive(502, "4903e942"),
            "setid.mat": Archive(14_989, "46b8678f"),
        },
    )

    def is_metadata(self, name: str) -> bool:
        """Labels and splits."""
        return name.rsplit("/", 1)[-1] in ("imagelabels.mat", "setid.mat")

    def layout(self, index: Index) -> Layout:
        """The official files or torchvision's folder, Udacity's by-class folders, or a hub's. Raises
        DataError."""
        if index.has_parquet:
            return hub_layout(self, index)
        if not any(_PICTURE.search(name) for name in index.pictures):
            place = "the folder that holds 102flowers.tgz, imagelabels.mat and setid.mat"
            raise self.not_recognised(place)
        labels, split_ids = index.find("imagelabels.mat"), index.find("setid.mat")
        if labels is not None:
            return self._official(labels, split_ids)
        if any(_BY_CLASS.search(name) for name in index.pictures):
            return self._by_class()
        what = "imagelabels.mat is missing: without it no picture has a class."
        raise DataError(what, stage=STAGE, action="put imagelabels.mat and setid.mat beside the pictures.")

    def _official(self, labels: bytes, split_ids: bytes | None) -> Layout:
        classes = dict(enumerate(numbers(read_mat("imagelabels.mat", labels, "labels")[0]), 1))
        if wrong := {one for one in classes.values() if not 1 <= one <= 102}:
            what = f"imagelabels.mat holds the label {min(wrong)}: the set's are 1 to 102."
            raise DataError(what, stage=STAGE, action="use the set's own file; some copies count from 0.")
        splits: dict[int, str] = {}
        if split_ids is not None:
            for ids, name in zip(read_mat("setid.mat", split_ids, *_SPLITS), _SPLITS.values(), strict=True):
                splits |= dict.fromkeys(numbers(ids), name)

        def place(name: str) -> Place | str | None:
            found = _PICTURE.search(name)
            if found is None:
                return None
            number = int(found.group(1))
            if number not in classes:
                return f"imagelabels.mat has no label {number}"
            return Place(str(classes[number]), splits.get(number, ""))

        listed = frozenset(f"image_{number:05d}.jpg" for number in splits)
        lacks = () if splits else ("it has no split: setid.mat is missing",)
        return Layout(self.title, place, lacks, listed, lambda name: name.rsplit("/", 1)[-1].lower())

    def _by_class(self) -> Layout:
        def place(name: str) -> Place | str | None:
            found = _BY_CLASS.search(name)
            if found is None:
                return None
            split, label = found.groups()
            if label is None:
                return "it has no class in this copy"
            return Place(str(int(label)), split.lower())

        lacks = ("its split is not the official one", "its test pictures have no class")
        return Layout(f"{self.title}, Udacity's copy", place, lacks)
