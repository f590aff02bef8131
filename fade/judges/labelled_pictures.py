"""The pictures of a data set with their concepts, read by its manifest, each checked against its hash."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from fade.data.manifest import HELDOUT, MANIFEST, TRAIN, read_manifest
from fade.data.pictures import decode_rgb, read_picture_file
from fade.data.vocabulary import Vocabulary
from fade.errors import DataError
from fade.utils.hashing import sha256_of

STAGE = "judge"
Prepare = Callable[[Image.Image], np.ndarray]
_IMAGENET, _PARTLY = {"imagenet", "imagenette", "stanford"}, {"cub"}
"""Words of a manifest's packages and licences whose pictures ImageNet has: all, or some of them."""


@dataclass(frozen=True)
class LabelledPictures:
    """The rows of a manifest, in its order."""

    folder: Path
    paths: tuple[str, ...]
    sha256: tuple[str, ...]
    labels: tuple[str, ...]
    """The concepts: a judge's labels, in the vocabulary's order."""
    targets: np.ndarray
    """(N,) int64: each picture's label."""
    heldout: np.ndarray
    """(N,) bool: never trained on."""
    sizes: tuple[tuple[int, int], ...]
    """Different (width, height), pixels."""
    manifest_sha256: str
    origin: str
    """Packages and licences, as the manifest names them."""

    @classmethod
    def read(cls, folder: Path) -> LabelledPictures:
        """Raises DataError for a manifest that cannot be used, names that cannot be told apart, another
        split, fewer than two concepts, one without a training picture, and a set that holds none out."""
        manifest = folder / MANIFEST
        frame, labels = read_manifest(manifest), Vocabulary.from_file(manifest).names
        if other := sorted(set(frame["split"]) - {TRAIN, HELDOUT}):
            what = f"{manifest} names the split {other[0][:80]!r}; {TRAIN} and {HELDOUT} are known."
            raise DataError(what, stage=STAGE, action="import the set again, or correct the column split.")
        heldout = (frame["split"] == HELDOUT).to_numpy(dtype=bool)
        trained = set(frame.loc[frame["split"] == TRAIN, "concept"])
        if len(labels) < 2:
            what = f"{manifest} has {len(labels)} concept(s)."
            raise DataError(what, stage=STAGE, action="a judge tells concepts apart: give it two or more.")
        if lacking := [name for name in labels if name not in trained]:
            more = f" and {len(lacking) - 3} more" if lacking[3:] else ""
            what = f"{manifest} has no picture to train on (split {TRAIN}) of {', '.join(lacking[:3])}{more}."
            raise DataError(what, stage=STAGE, action="add some, or leave the concept out.")
        if not heldout.any():
            what = f"{manifest} holds no picture out (split {HELDOUT}): nothing would measure the judge."
            raise DataError(what, stage=STAGE, action="give some pictures of each concept that split.")
        place = {name: i for i, name in enumerate(labels)}
        named = sorted({*frame["package"], *frame["licence"]})
        return cls(
            folder=folder,
            paths=tuple(frame["path"]),
            sha256=tuple(frame["sha256"]),
            labels=tuple(labels),
            targets=np.array([place[name] for name in frame["concept"]], np.int64),
            heldout=heldout,
            sizes=tuple(sorted(set(zip(frame["width"], frame["height"], strict=True)))),
            manifest_sha256=sha256_of(manifest),
            origin=", ".join(named),
        )

    def __len__(self) -> int:
        return len(self.paths)

    def plain_side(self, most: int) -> int:
        """The side where all pictures are squares of one size of at most ``most`` pixels; else 0."""
        if len(self.sizes) != 1:
            return 0
        width, height = self.sizes[0]
        return int(width) if width == height <= most else 0

    def load(self, rows: Sequence[int] | np.ndarray, prepare: Prepare) -> np.ndarray:
        """uint8 (len(rows), H, W, 3): pictures as ``prepare`` gives them, read by a pool of threads. Raises
        DataError for one that cannot be read, or is not the one of the manifest."""

        def one(row: int) -> np.ndarray:
            name = self.paths[row]
            try:
                content = read_picture_file(self.folder, name)
                if hashlib.sha256(content).hexdigest() != self.sha256[row]:
                    raise ValueError("it is not the one that the manifest names (another sha256)")
                return prepare(Image.fromarray(decode_rgb(content)[1]))
            except (OSError, ValueError) as error:
                action = "mend the picture or its row, or import the set again."
                what = f"{self.folder / name} cannot be used: {error}."
                raise DataError(what, stage=STAGE, action=action) from error

        with ThreadPoolExecutor() as pool:
            pictures: np.ndarray = np.stack(list(pool.map(one, map(int, rows))))
        return pictures

    def warning(self) -> str:
        """A sentence where ImageNet has these pictures, so that a network pretrained on it has met those that
        are held out; "" where nothing is known of that."""
        words = set(re.findall("[a-z]+", self.origin.lower()))
        if words & _IMAGENET:
            which = "These pictures are ImageNet's"
        elif words & _PARTLY:
            which = "Some of these pictures are ImageNet's"
        else:
            return ""
        return (
            f"{which}: a network that was pretrained on ImageNet has met pictures that are held out here, "
            "and its accuracy on them is too high."
        )
