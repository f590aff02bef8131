"""The data sets of pictures that can be imported, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fade.data.importers.cub import Cub
from fade.data.importers.image_folder import ImageFolder
from fade.data.importers.imagenet import ImageNet, Imagenette
from fade.data.importers.members import STAGE
from fade.data.importers.oxford_flowers import OxfordFlowers
from fade.data.importers.picture_set import PictureSet
from fade.data.importers.records import read_record
from fade.data.importers.stanford_dogs import StanfordDogs
from fade.errors import UnknownNameError

SETS: dict[str, PictureSet] = {
    one.name: one for one in (StanfordDogs(), OxfordFlowers(), Cub(), Imagenette(), ImageNet(), ImageFolder())
}


def picture_set(name: str) -> PictureSet:
    """The data set of this name. Raises UnknownNameError."""
    if name not in SETS:
        raise UnknownNameError("data set", name, SETS, stage=STAGE)
    return SETS[name]


def overview(home: Path) -> list[dict[str, Any]]:
    """A row for each set: ``set``, ``title``, ``classes``, ``pictures``, ``licence``, ``terms`` and, in
    ``here``, the folders below ``home`` that hold an import of it."""
    here: dict[str, list[str]] = {}
    for folder in sorted(home.iterdir()) if home.is_dir() else []:
        if record := read_record(folder):
            here.setdefault(str(record.get("set")), []).append(str(folder))
    return [
        {
            "set": one.name,
            "title": one.title,
            "classes": one.facts.classes if one.facts else 0,
            "pictures": sum(one.facts.counts.values()) if one.facts else 0,
            "licence": one.licence,
            "terms": one.terms_name,
            "here": here.get(one.name, []),
        }
        for one in SETS.values()
    ]
