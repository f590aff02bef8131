"""The names of a judge's classes: its own, ImageNet's, or those of a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from fade.errors import DataError, UsageError
from fade.models.judge_checks import check_labels
from fade.utils.names import normal_name
from fade.utils.reading import TEXT, read_text

STAGE = "judge"
IMAGENET = "imagenet"
IMAGENET_CLASSES = 1000
HEAD = ("label", "concept")
"""Columns that a table of names has; it may have others."""


def name_classes(labels: Sequence[str], classes: int, names: str | None) -> list[str]:
    """A judge's concepts, one a class, in the order of its logits.

    labels: what its file names them; empty for a file of numbers alone. names: ``imagenet``, a CSV table with
    the columns label and concept, a text file with one name a line; None: as they are. Raises UsageError
    where nothing names the classes, DataError for another number of names, a label that is not there, or a
    name that is none, BaseModelError for two that cannot be told apart."""
    if names is None:
        if not labels:
            what = f"nothing in it names its {classes} classes."
            action = "give --names imagenet (for ImageNet's thousand) or --names FILE (one name a class)."
            raise UsageError(what, stage=STAGE, action=action)
        concepts, origin = list(labels), "its own"
    elif names == IMAGENET:
        concepts, origin = _imagenet(labels, classes), IMAGENET
    else:
        concepts, origin = _from_file(Path(names), labels, classes), names
    action = "give --names imagenet or --names FILE, with a name for each class that no other has."
    check_labels(concepts, f"{origin} names", action)
    return concepts


def _imagenet(labels: Sequence[str], classes: int) -> list[str]:
    """Its thousand in their order where the file names none; else each label is looked up."""
    if not labels and classes != IMAGENET_CLASSES:
        what = f"ImageNet has {IMAGENET_CLASSES} classes, this judge {classes}, which nothing names."
        raise DataError(what, stage=STAGE, action="give --names FILE, with one name a class.")
    from fade.data.importers.class_names import class_names, imagenet_concepts

    return imagenet_concepts(list(labels) or [one.label for one in class_names("imagenet")])


def _from_file(path: Path, labels: Sequence[str], classes: int) -> list[str]:
    try:
        text = read_text(path, TEXT).removeprefix("\ufeff")
    except OSError as error:
        what = f"--names {path}: {error.strerror or error}."
        action = "name a CSV table (label,concept), a text file with one name a line, or imagenet."
        raise DataError(what, stage=STAGE, action=action) from None
    try:
        rows = [row for row in csv.reader(io.StringIO(text)) if row]
    except csv.Error as error:
        raise _fault(path, f"it is no table: {error}") from None
    head = [cell.strip() for cell in rows[0]] if rows else []
    if set(HEAD) <= set(head):
        places = [head.index(name) for name in HEAD]
        if short := next((i for i, row in enumerate(rows, 1) if len(row) < len(head)), 0):
            raise _fault(path, f"row {short} has fewer fields than the head")
        pairs = [(row[places[0]].strip(), row[places[1]].strip()) for row in rows[1:]]
        concepts = _in_order(path, pairs, labels, classes)
    else:
        concepts = [line.strip() for line in text.rstrip("\n").split("\n")]
        _check_count(path, len(concepts), classes)
    for place, name in enumerate(concepts):
        try:
            normal = normal_name(name)
        except ValueError as error:
            raise _fault(path, f"name {place + 1}, {name[:80]!r}: {error}") from None
        if normal != name:
            raise _fault(path, f"name {place + 1}, {name[:80]!r}, is not in its normal form, {normal!r}")
    return concepts


def _in_order(path: Path, pairs: Sequence[tuple[str, str]], labels: Sequence[str], classes: int) -> list[str]:
    """The concepts in the order of the classes: by position, by the judge's own labels, or as they stand."""
    _check_count(path, len(pairs), classes)
    table = dict(pairs)
    if len(table) != len(pairs):
        names = [label for label, _ in pairs]
        twice = next(label for label in names if names.count(label) > 1)
        raise _fault(path, f"the label {twice[:80]!r} is there twice")
    positions = [str(i) for i in range(classes)]
    if table.keys() == set(positions):
        return [table[place] for place in positions]
    if not labels:
        return [concept for _, concept in pairs]
    if absent := next((label for label in labels if label not in table), None):
        raise _fault(path, f"the judge's label {absent[:80]!r} is not in it")
    return [table[label] for label in labels]


def _check_count(path: Path, names: int, classes: int) -> None:
    if names != classes:
        raise _fault(path, f"it names {names} classes, the judge has {classes}")


def _fault(path: Path, why: str) -> DataError:
    return DataError(f"--names {path}: {why}.", stage=STAGE, action="correct the table of names.")
