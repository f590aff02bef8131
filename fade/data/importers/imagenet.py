"""ImageNet-1k (ILSVRC 2012) and Imagenette, its ten easy classes. A class is a wnid; a file name's wnid may
be another one (500 of Imagenette's are called ``ILSVRC2012_val_*``), so the folder decides."""

from __future__ import annotations

import csv
import io
import re

from fade.data.importers.class_names import class_names
from fade.data.importers.matlab import numbers, read_mat, texts
from fade.data.importers.members import STAGE
from fade.data.importers.picture_set import (
    Archive,
    Facts,
    Index,
    Layout,
    PictureSet,
    Place,
    label_of,
)
from fade.errors import DataError

_BY_FOLDER = re.compile(r"(?:^|/)(train|val)/(n\d{8})/[^/]+\.jpe?g$", re.IGNORECASE)
_INNER_TAR = re.compile(r"(?:^|/)(n\d{8})\.tar/[^/]+\.jpe?g$", re.IGNORECASE)
_VALIDATION = re.compile(r"(?:^|/)(ILSVRC2012_val_(\d{8}))\.jpe?g$", re.IGNORECASE)
_TEST = re.compile(r"(?:^|/)ILSVRC2012_test_\d{8}\.jpe?g$", re.IGNORECASE)
_HUB = re.compile(r"^(train|test|val|valid|validation)/([^/]+)/.*?-\d{7}-(.*)$")
_LAST_WNID = re.compile(r"_(n\d{8})\.jpe?g$", re.IGNORECASE)
_TRUTH, _META, _SOLUTION = "ILSVRC2012_validation_ground_truth.txt", "meta.mat", "LOC_val_solution.csv"
TERMS = (
    "non-commercial research and education only, and the pictures may not be passed on "
    "(https://image-net.org/download)"
)


class ImageNet(PictureSet):
    """train.tar of a thousand tars, val.tar with the labels in the devkit; Kaggle's folder, an extracted
    copy, or the hub's parquet shards. By default 50 pictures of a class and split are imported."""

    name, title = "imagenet", "ImageNet-1k"
    licence, terms, terms_name = "LicenseRef-ImageNet", TERMS, "imagenet-terms"
    per_class = 50
    facts = Facts(
        1000,
        {"train": 1_281_167, "val": 50_000},
        {
            "ILSVRC2012_img_train.tar": Archive(147_897_477_120, "b08200a2"),
            "ILSVRC2012_img_val.tar": Archive(6_744_924_160, "c7e06a6c"),
        },
    )

    def is_metadata(self, name: str) -> bool:
        """The devkit's two files, Kaggle's table of labels."""
        return name.rsplit("/", 1)[-1] in (_TRUTH, _META, _SOLUTION)

    def layout(self, index: Index) -> Layout:
        """Whatever form the copy has. Raises DataError."""
        labels = {one.label for one in class_names(self.name)}
        if index.has_parquet:
            return self._hub(index)
        validation = self._validation(index)
        has_val = any(_VALIDATION.search(n) and not _BY_FOLDER.search(n) for n in index.pictures)
        if has_val and not validation:
            what = "the validation pictures have no labels here."
            action = "put ILSVRC2012_devkit_t12.tar.gz, or LOC_val_solution.csv, beside them."
            raise DataError(what, stage=STAGE, action=action)

        def place(name: str) -> Place | str | None:
            if found := _BY_FOLDER.search(name):
                split, label = found.group(1).lower(), found.group(2)
            elif found := _INNER_TAR.search(name):
                split, label = "train", found.group(1)
            elif found := _VALIDATION.search(name):
                split, label = "val", validation.get(found.group(1), "")
            elif _TEST.search(name):
                return "a test picture has no class"
            else:
                return None
            return Place(label, split) if label in labels else f"{label or 'it'} is no class of {self.title}"

        instead = "the folder that holds the archives and the devkit, or train/ and val/"
        self.require_pictures(index, place, instead)
        listed = frozenset(validation) if has_val else frozenset()
        lacks = _missing_split(index, {"train": (_BY_FOLDER, _INNER_TAR), "val": (_BY_FOLDER, _VALIDATION)})
        kaggle = any("Data/CLS-LOC/" in name for name in index.pictures)
        title = f"{self.title}, Kaggle's copy" if kaggle else self.title
        return Layout(title, place, lacks, listed, _validation_key)

    def _validation(self, index: Index) -> dict[str, str]:
        """Base name of a validation picture -> wnid; empty where the copy has no labels."""
        truth, meta, solution = index.find(_TRUTH), index.find(_META), index.find(_SOLUTION)
        if truth is not None and meta is not None:
            synsets = read_mat(_META, meta, "synsets")[0]
            ids, wnids, children = (synsets[field] for field in ("ILSVRC2012_ID", "WNID", "num_children"))
            # an id is not the rank of the wnid; what has children is no class
            leaves = zip(numbers(_flat(ids)), texts(wnids), numbers(_flat(children)), strict=True)
            by_id = {number: wnid for number, wnid, below in leaves if not below}
            lines = truth.decode("ascii", "replace").split()
            if wrong := next((line for line in lines if not line.isdigit() or int(line) not in by_id), ""):
                raise DataError(
                    f"{_TRUTH} holds {wrong!r}, which is no id of {_META}.",
                    stage=STAGE,
                    action="fetch the devkit again.",
                )
            return {f"ILSVRC2012_val_{i:08d}": by_id[int(line)] for i, line in enumerate(lines, 1)}
        if solution is not None:
            rows = csv.DictReader(io.StringIO(solution.decode("utf-8", "replace")))
            if not {"ImageId", "PredictionString"} <= set(rows.fieldnames or ()):
                what = f"{_SOLUTION} lacks its columns ImageId and PredictionString."
                raise DataError(what, stage=STAGE, action="fetch it again.")
            return {str(row["ImageId"]): str(row["PredictionString"]).split(" ")[0] for row in rows}
        return {}

    def _hub(self, index: Index) -> Layout:
        labels = {one.label for one in class_names(self.name)}

        def place(name: str) -> Place | str | None:
            found = _HUB.search(name)
            if found is None:
                return None
            split, kind, base = found.groups()
            if split == "test":
                return "a test picture has no class"
            named = _LAST_WNID.search(base)  # the class; a wnid before it is of the file's first home
            label = named.group(1) if named else label_of(self.name, kind)
            if label not in labels:
                return f"{kind!r} is no one class of {self.title}"
            return Place(label, "train" if split == "train" else "val")

        self.require_pictures(index, place, "the hub's folder of parquet files")
        return Layout(f"{self.title}, parquet files of a hub", place)


class Imagenette(PictureSet):
    """``imagenette2[-160|-320]/{train,val}/<wnid>/<file>.JPEG``; the names are in no file of it."""

    name, title = "imagenette", "Imagenette"
    licence, terms, terms_name = "LicenseRef-ImageNet", TERMS, "imagenet-terms"
    facts = Facts(
        10,
        {"train": 9_469, "val": 3_925},
        {
            "imagenette2.tgz": Archive(1_557_161_267, "6cbfac23"),
            "imagenette2-320.tgz": Archive(341_663_724, "569b4497"),
            "imagenette2-160.tgz": Archive(99_003_388, "64d0c485"),
            "imagenette.tgz": Archive(1_556_495_367, "1bd650bc"),
            "imagenette-320.tgz": Archive(341_289_752, "0e3ac85d"),
            "imagenette-160.tgz": Archive(98_752_094, "4bacf19a"),
        },
    )

    def is_metadata(self, name: str) -> bool:
        """None: the table of noisy labels is wrong on purpose."""
        return False

    def layout(self, index: Index) -> Layout:
        """The archive of either version and any size, an extracted copy, or the hub's."""
        labels = {one.label for one in class_names(self.name)}

        def place(name: str) -> Place | str | None:
            if index.has_parquet:
                split, kind = name.split("/")[:2]
                label = label_of(self.name, kind)
                split = "train" if split == "train" else "val"
            elif found := _BY_FOLDER.search(name):
                split, label = found.group(1).lower(), found.group(2)
            else:
                return None
            return Place(label, split) if label in labels else f"{label or kind} is no class of {self.title}"

        instead = "imagenette2-160.tgz, imagenette2-320.tgz, imagenette2.tgz, or a copy"
        self.require_pictures(index, place, instead)
        first = any(re.search(r"(?:^|/)imagenette(?:-\d+)?/", name) for name in index.pictures)
        lacks: tuple[str, ...] = (
            ("it is version 1, whose split is another one than version 2's",) if first else ()
        )
        if not index.has_parquet:
            lacks += _missing_split(index, {"train": (_BY_FOLDER,), "val": (_BY_FOLDER,)})
        form = ", parquet files of a hub" if index.has_parquet else ""
        return Layout(f"{self.title}{form}", place, lacks)


def _missing_split(index: Index, patterns: dict[str, tuple[re.Pattern[str], ...]]) -> tuple[str, ...]:
    """A sentence for each split of which the copy has no picture."""

    def holds(split: str, pattern: re.Pattern[str]) -> bool:
        found = (pattern.search(name) for name in index.pictures)
        return any(one and (pattern is not _BY_FOLDER or one.group(1).lower() == split) for one in found)

    return tuple(
        f"it has no {split} pictures"
        for split, ones in patterns.items()
        if not any(holds(split, pattern) for pattern in ones)
    )


def _validation_key(name: str) -> str:
    """What the labels call a validation picture; "" for one that they do not list."""
    found = None if _BY_FOLDER.search(name) else _VALIDATION.search(name)
    return found.group(1) if found else ""


def _flat(cells: object) -> list[float]:
    """Of an array of 1x1 arrays."""
    import numpy as np

    return [float(np.ravel(cell)[0]) for cell in np.ravel(np.asarray(cells, dtype=object))]
