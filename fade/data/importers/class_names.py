"""The class names of the data sets that FADE was evaluated on, and a user's own table of names.

A table is ``names/<set>.csv``, one row a class in the set's own order, with the columns COLUMNS. The labels
are those of the sets' distributions; the wnids, and the synonyms of ImageNet and the Dogs, are WordNet 3.0's;
the spoken names and the families are ours."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fade.data.vocabulary import slug
from fade.errors import DataError, UnknownNameError
from fade.utils.names import normal_name, skeleton
from fade.utils.reading import TEXT, read_text

NAMES = Path(__file__).with_name("names")
SETS = ("dogs", "flowers", "cub", "imagenette", "imagenet")
IMAGENETTE = (
    *("n01440764", "n02102040", "n02979186", "n03000684", "n03028079"),
    *("n03394916", "n03417042", "n03425413", "n03445777", "n03888257"),
)
"""The wnids of Imagenette in its order."""
NAMINGS = ("as-prompted", "spoken")
REQUIRED = ("label", "concept")
COLUMNS = ("label", "wnid", "concept", "spoken", "synonyms", "family")
LONGEST = 80
"""Characters of a concept, a spoken name and a family: a prompt around it stays within CLIP's 77 tokens."""
LONGEST_LABEL = 200
SHOWN = 80
"""Characters of a wrong value in an error."""
_APART: tuple[tuple[str, tuple[Callable[[str], str], ...]], ...] = (
    ("label", (str,)),
    ("wnid", (str,)),
    ("concept", (str, skeleton, slug)),
    ("spoken", (str, skeleton, slug)),
)
"""Columns whose values differ from row to row, and under which keys."""
_WNID = re.compile(r"n\d{8}")
_WNID_FIRST = re.compile(r"(n\d{8})[ _-]+(.+)")


@dataclass(frozen=True)
class ClassName:
    """One class of a data set and what it is called."""

    label: str
    """The set's own key: a folder name (Dogs, CUB), a number (Flowers), a wnid (ImageNet)."""
    wnid: str
    """WordNet 3.0's id of the class, ``n`` and eight digits; empty where the set has none."""
    concept: str
    """As the papers prompt it: unique in the set, without case and as a slug, too."""
    spoken: str
    """As a person would call it, so that a model does not take it for another thing; unique as well."""
    synonyms: tuple[str, ...]
    family: str
    """A group of like classes, in plain English."""


@cache
def class_names(set_name: str) -> tuple[ClassName, ...]:
    """The classes of a data set, one of SETS, in the set's own order. Raises UnknownNameError; DataError when
    the installed table is damaged."""
    if set_name not in SETS:
        raise UnknownNameError("data set", set_name, SETS, stage="class names")
    if set_name == "imagenette":
        by_wnid = {one.wnid: one for one in class_names("imagenet")}
        return tuple(by_wnid[wnid] for wnid in IMAGENETTE)
    return tuple(read_names(NAMES / f"{set_name}.csv").values())


def name_as(one: ClassName, naming: str) -> str:
    """The name of a class by one of NAMINGS. Raises UnknownNameError."""
    if naming not in NAMINGS:
        raise UnknownNameError("naming", naming, NAMINGS, stage="class names")
    return one.spoken if naming == "spoken" else one.concept


def find_class(set_name: str, text: str) -> ClassName:
    """The class that ``text`` names: by its label, by its concept exactly, or by any of its names whatever
    their case, with ``_`` for a blank and without hyphens and apostrophes, as mirrors have them.

    Names between commas, and a wnid before a name, must all be of one class: ``tench, Tinca tinca``,
    ``n01440764 tench``. A name of several classes (``crane``, ``panda``, ``horn``) is refused. Raises
    UnknownNameError, which lists the classes that may be meant, or the nearest names; DataError as
    `class_names`."""
    classes, by_name = class_names(set_name), _by_name(set_name)
    exact = [one for one in classes if text in (one.label, one.concept)]
    if len(exact) == 1:
        return exact[0]
    meant = [by_name.get(key, ()) for key in _keys(text)]
    common = [one for one in classes if meant and all(one in several for several in meant)]
    if len(common) == 1:
        return common[0]
    error = UnknownNameError("class", text[:SHOWN], [one.concept for one in classes], stage="class names")
    if common:
        error.action = f"write one of {', '.join(repr(one.concept) for one in common)}: each may be meant."
    raise error


def imagenet_concepts(labels: Sequence[str]) -> list[str]:
    """The concepts of the table for a classifier's ImageNet labels, in the labels' order.

    1,000 labels are taken by their place, which is that of the sorted wnids, and each must hold names of the
    class there alone: a whole synset (``tench, Tinca tinca``), its first word, a wnid, torchvision's name,
    ours. Fewer are looked up one by one (`find_class`). Raises DataError for the first label that does not
    fit, for two of one class, and for more than 1,000; UnknownNameError for a label that names no class, or
    several."""
    classes = class_names("imagenet")
    if len(labels) > len(classes):
        what = f"a classifier of ImageNet has 1,000 labels, this one {len(labels):,}."
        action = "leave out what is no class (some have `background` as their first)."
        raise DataError(what, stage="class names", action=action)
    if len(labels) < len(classes):
        return _looked_up(labels)
    for place, (label, one) in enumerate(zip(labels, classes, strict=True)):
        if not _fits(label, one):
            what = f"label {place} is {label[:SHOWN]!r}; ImageNet has {one.concept!r} ({one.wnid}) there."
            action = "give the labels in ImageNet's order, that of the sorted WordNet ids, the first as 0."
            raise DataError(what, stage="class names", action=action)
    return [one.concept for one in classes]


def read_names(path: Path) -> dict[str, ClassName]:
    """A table of names, by label, in its order: a CSV file with the columns REQUIRED and any others of
    COLUMNS.

    Synonyms are separated by ``;``; without a spoken name the concept is spoken. Raises DataError, which
    names row and column, for a file or a row that is no such table, a label or a wnid that stands twice, a
    name that no concept may have (`fade.utils.names.normal_name`, only digits, more than LONGEST
    characters), and two names of one column that fall together without case or as slugs."""
    columns, rows = _read_table(path)
    classes: dict[int, ClassName] = {}
    for line, row in rows:
        if len(row) != len(columns):
            raise _fault(path, f": row {line} has {len(row)} fields, the head has {len(columns)}")
        classes[line] = _class_name(path, line, dict(zip(columns, row, strict=True)))
    for column, keys in _APART:
        names = {line: str(getattr(one, column)) for line, one in classes.items()}
        for key in keys:
            _check_apart(path, column, names, key)
    return {one.label: one for one in classes.values()}


def _read_table(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The head, and the rows with the number of the line on which each ends (the head is on line 1)."""
    try:
        lines = csv.reader(io.StringIO(read_text(path, TEXT).removeprefix("\ufeff"), newline=""), strict=True)
        rows = [(lines.line_num, row) for row in lines if row]
    except FileNotFoundError:
        raise _fault(path, " does not exist") from None
    except OSError as error:
        raise _fault(path, f" cannot be read: {error}") from None
    except csv.Error as error:
        raise _fault(path, f" is no CSV table: {error}") from None
    if len(rows) < 2:
        raise _fault(path, " names no class")
    columns = [name.strip(" ") for name in rows[0][1]]
    missing = [name for name in REQUIRED if name not in columns]
    extra = [
        name[:SHOWN] for place, name in enumerate(columns) if name not in COLUMNS or name in columns[:place]
    ]
    parts = [f"missing {missing}" if missing else "", f"unknown or twice {extra[:5]}" if extra else ""]
    if wrong := ", ".join(filter(None, parts)):
        raise _fault(path, f": columns: {wrong}")
    return columns, rows[1:]


def _class_name(path: Path, line: int, fields: Mapping[str, str]) -> ClassName:
    values = {column: fields.get(column, "").strip(" ") for column in COLUMNS}

    def fault(column: str, why: str) -> DataError:
        value = fields.get(column, "")[:SHOWN]
        return _fault(path, f": row {line}, column {column}: {value!r}: {why}")

    label, wnid = values["label"], values["wnid"]
    if not label or len(label) > LONGEST_LABEL or not label.isprintable():
        raise fault("label", f"a label has 1 to {LONGEST_LABEL} characters that can be printed")
    if wnid and not _WNID.fullmatch(wnid):
        raise fault("wnid", "a WordNet id is `n` and eight digits")
    if not values["synonyms"].isprintable():
        raise fault("synonyms", "it holds a character that cannot be printed")
    names: dict[str, str] = {}
    for column in ("concept", "spoken", "family"):
        if not values[column] and column != "concept":
            continue
        try:
            names[column] = normal_name(values[column])
        except ValueError as error:
            raise fault(column, str(error)) from None
        if len(names[column]) > LONGEST:
            raise fault(column, f"it has {len(names[column])} characters, at most {LONGEST} are allowed")
        if names[column].isdigit():
            raise fault(column, "a number is no name")
    synonyms = tuple(filter(None, (name.strip(" ") for name in values["synonyms"].split(";"))))
    concept = names["concept"]
    return ClassName(label, wnid, concept, names.get("spoken", concept), synonyms, names.get("family", ""))


def _check_apart(path: Path, column: str, names: Mapping[int, str], key: Callable[[str], str]) -> None:
    """``names``: by line. Empty ones may be many."""
    lines: dict[str, int] = {}
    for line, name in names.items():
        other = lines.setdefault(key(name), line)
        if name and other != line:
            fall = "stands" if names[other] == name else f"cannot be told apart from {names[other]!r}"
            raise _fault(path, f": row {line}, column {column}: {name!r} {fall} in row {other}")


def _fault(path: Path, what: str) -> DataError:
    action = f"write a CSV table with the columns {', '.join(REQUIRED)} and, as you like, "
    action += f"{', '.join(name for name in COLUMNS if name not in REQUIRED)}, one class a row."
    return DataError(f"{path}{what}.", stage="class names", action=action)


@cache
def _by_name(set_name: str) -> dict[str, tuple[ClassName, ...]]:
    """The classes that each name may mean, by the name's key."""
    by_name: dict[str, tuple[ClassName, ...]] = {}
    for one in class_names(set_name):
        for key in _keys_of(one):
            by_name[key] = (*by_name.get(key, ()), one)
    return by_name


@cache
def _keys_of(one: ClassName) -> frozenset[str]:
    names = (one.label, one.wnid, one.concept, one.spoken, *one.synonyms)
    return frozenset(_key(name) for name in names if name)


def _key(name: str) -> str:
    return skeleton(re.sub(r"[_\-.?']", " ", name))


def _keys(text: str) -> Iterator[str]:
    """The keys of the names that a text holds: between commas, and a wnid before them."""
    if match := _WNID_FIRST.fullmatch(text):
        yield match[1]
        text = match[2]
    yield from filter(None, (_key(name) for name in text.split(",")))


def _fits(label: str, one: ClassName) -> bool:
    """Whether a label holds names of this class alone. Some lists write ``crane2`` for the second crane."""
    known, keys = _keys_of(one), list(_keys(label))
    return bool(keys) and all(key in known or (key[-1] == "2" and key[:-1] in known) for key in keys)


def _looked_up(labels: Sequence[str]) -> list[str]:
    by_concept: dict[str, str] = {}
    for label in labels:
        concept = find_class("imagenet", label).concept
        if concept in by_concept:
            what = f"the labels {by_concept[concept][:SHOWN]!r} and {label[:SHOWN]!r} both name {concept!r}."
            action = "give each class one label."
            raise DataError(what, stage="class names", action=action)
        by_concept[concept] = label
    return list(by_concept)
