"""What an import will do, before a picture is read: which pictures, under which names, into which split.

Everything that the names alone can tell is refused here, all of it in one sentence."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fade.data.importers.archive import is_archive, open_container, unreadable
from fade.data.importers.class_names import LONGEST, ClassName, name_as, read_names
from fade.data.importers.members import STAGE, Container, Member
from fade.data.importers.options import ImportOptions
from fade.data.importers.picture_set import (
    OTHER_PICTURES,
    PICTURES,
    Index,
    Layout,
    PictureSet,
    Place,
)
from fade.data.importers.rows import Placed, Row, rows_of
from fade.data.vocabulary import Concept, Vocabulary
from fade.errors import DataError, UsageError, nearest
from fade.utils.progress import report

SHOWN = 5
"""Faults of a kind that are named."""


@dataclass(frozen=True)
class Plan:
    """An import, decided."""

    owner: PictureSet
    options: ImportOptions
    layout: Layout
    containers: Sequence[Container]
    rows: Sequence[Row]
    classes: Sequence[ClassName]
    """Those with pictures, in the set's order."""
    left_out: Mapping[str, str]
    """Picture -> why, as far as names tell."""
    others: int
    """Files that are no pictures of the set."""
    states: Sequence[tuple[int, ...]]
    """`file_state` of each container, before its names were read."""

    def summary(self) -> dict[str, Any]:
        """What was recognised: layout, lacks, notes, counts by the set's own splits, classes, bytes."""
        facts = self.owner.facts
        notes = []
        if facts and len(self.classes) != facts.classes:
            notes.append(f"{len(self.classes):,} of the set's {facts.classes:,} classes are in this copy")
        if self.options.per_class:
            notes.append(f"at most {self.options.per_class:,} pictures of a class and split")
        if self.left_out:
            notes.append(f"{len(self.left_out):,} files are left out")
        return {
            "set": self.owner.name,
            "layout": self.layout.description,
            "lacks": list(self.layout.lacks),
            "notes": notes,
            "classes": len(self.classes),
            "counts": dict(Counter(row.own_split or row.split for row in self.rows)),
            "bytes": sum(row.size for row in self.rows),
        }


def file_state(container: Container) -> tuple[int, ...]:
    """What changes with an archive file; empty for a folder, and for a file that is gone."""
    try:
        found = container.path.stat()
    except OSError:
        return ()
    return () if container.path.is_dir() else (found.st_ino, found.st_size, found.st_mtime_ns)


def containers_of(path: Path, owner: PictureSet) -> list[Container]:
    """What a path holds: an archive and its companions beside it, or a folder and the archives in it. Raises
    DataError."""
    try:
        if not path.exists():
            what, action = f"{path} does not exist.", "name the archive or the folder of the data set."
            raise DataError(what, stage=STAGE, action=action)
        if path.is_dir():
            archives = sorted(one for one in path.rglob("*") if one.is_file() and is_archive(one))
            return [open_container(path), *map(open_container, archives)]
        beside = [one for one in sorted(path.parent.iterdir()) if one != path and one.is_file()]
    except OSError as error:
        raise unreadable(path, error) from None
    opened = [open_container(path)]
    if path.suffix == ".parquet":
        return opened + [open_container(one) for one in beside if one.suffix == ".parquet"]
    official = owner.facts.archives if owner.facts else {}
    companions = [one for one in beside if one.name in official or one.name.startswith("ILSVRC2012_devkit")]
    opened += [open_container(one) for one in companions if is_archive(one)]
    if any(owner.is_metadata(one.name) for one in beside):
        opened.append(open_container(path.parent))
    return opened


def plan_import(owner: PictureSet, path: Path, options: ImportOptions) -> Plan:
    """Read the names in a copy and decide. Raises DataError, UsageError."""
    options = replace(options, per_class=options.per_class or owner.per_class)
    containers = containers_of(path, owner)
    states = [file_state(one) for one in containers]
    found, index, others = _index(owner, containers)
    layout = owner.layout(index)
    placed: list[Placed] = []
    left_out: dict[str, str] = {}
    keys: set[str] = set()
    places: dict[Place, Place] = {}  # one object for the pictures of one class: a set has a million
    for container, member in found:
        name = member.name
        place = layout.place(name)
        if place is None:
            others += 1
        elif isinstance(place, str):
            left_out[name] = place
        elif name.lower().endswith(OTHER_PICTURES):
            left_out[name] = f"a {name.rsplit('.', 1)[-1].upper()} file is not read here"
        elif (key := layout.key(name) or name) not in keys:  # else an archive lies beside its extracted copy
            keys.add(key)
            placed.append((container, member, places.setdefault(place, place)))
    del found, keys
    _check_listed(owner, layout, [*left_out, *(member.name for _, member, _ in placed)], options)
    classes, placed, skipped = _classes(owner, layout, placed, options)
    left_out |= skipped
    if any(not place.split for _, _, place in placed) and options.split is None:
        what = f"{layout.description}: {'; '.join(layout.lacks) or 'some pictures have no split'}."
        action = "add what is missing, or draw a split with --split seed:0,0.8 (it is recorded)."
        raise DataError(what, stage=STAGE, action=action)
    rows = rows_of(owner, classes, placed, options)
    _check_counts(classes, rows)
    # without what finds a picture's place: that holds the names of the whole copy
    known = Layout(layout.description, lambda name: None, layout.lacks)
    return Plan(owner, options, known, containers, rows, classes, left_out, others, states)


def _index(owner: PictureSet, containers: Sequence[Container]) -> tuple[list[tuple[int, Member]], Index, int]:
    """(container, member) of every file that looks like a picture; the index; how many files do not."""
    found: list[tuple[int, Member]] = []
    metadata: dict[str, bytes] = {}
    others = 0
    for number, container in enumerate(containers):
        for member in container.members(lambda name, size: owner.is_metadata(name)):
            if member.content is not None:
                metadata[f"{container.path.name}/{member.name}"] = member.content
            elif member.name.lower().endswith((*PICTURES, *OTHER_PICTURES)):
                found.append((number, member))
                if len(found) % 1000 == 0:
                    report("index", len(found), 0, container.path.name)
            else:
                others += 1
    has_parquet = any(container.path.suffix == ".parquet" for container in containers)
    return found, Index([member.name for _, member in found], metadata, has_parquet), others


def _check_listed(owner: PictureSet, layout: Layout, names: Sequence[str], options: ImportOptions) -> None:
    """The copy has the pictures that the set's own lists name, and no others. Raises DataError."""
    if not layout.listed or options.partial:
        return
    keys = set(map(layout.key, names)) - {""}
    action = "fetch the archive again, or import what is there with --partial (it is recorded)."
    if missing := layout.listed - keys:
        what = (
            f"{len(missing):,} pictures that the lists of {owner.title} name are missing: {min(missing)!r}."
        )
        raise DataError(what, stage=STAGE, action=action)
    if over := keys - layout.listed:
        what = f"{len(over):,} pictures are in no list of {owner.title}, as {min(over)!r}."
        raise DataError(what, stage=STAGE, action=action)


def _classes(
    owner: PictureSet, layout: Layout, placed: Sequence[Placed], options: ImportOptions
) -> tuple[list[ClassName], list[Placed], dict[str, str]]:
    """The classes that have pictures, under the names that the user chose; the pictures of those that are not
    skipped; the pictures of those that are. Raises DataError for names that cannot be concepts."""
    table = read_names(options.names) if options.names else {}
    present = {place.label for _, _, place in placed}
    all_classes = {one.label: one for one in owner.classes(layout)}
    if unknown := sorted(set(table) - set(all_classes)):
        what = f"{options.names} names the class {unknown[0]!r}, which the copy does not have."
        near = nearest(unknown[0], all_classes)
        action = (
            f"did you mean {near[0]!r}?" if near else f"the classes are {sorted(all_classes)[:SHOWN]} ..."
        )
        raise DataError(what, stage=STAGE, action=action)
    chosen = [table.get(label, one) for label, one in all_classes.items() if label in present]
    named = [replace(one, concept=name_as(one, options.naming)) for one in chosen]
    by_any_name = {text: one.label for one in named for text in (one.label, one.concept)}
    if wrong := [text for text in options.skip if text not in by_any_name]:
        near = nearest(wrong[0], by_any_name)
        action = f"did you mean {near[0]!r}?" if near else "name a class as its folder or concept has it."
        raise UsageError(f"--skip {wrong[0]!r} is no class of this copy.", stage=STAGE, action=action)
    skipped = {by_any_name[text] for text in options.skip}
    kept = [one for one in named if one.label not in skipped]
    _check_names(kept)
    out = {one.name: "its class is skipped" for _, one, place in placed if place.label in skipped}
    return kept, [one for one in placed if one[2].label not in skipped], out


def _check_names(classes: Sequence[ClassName]) -> None:
    """Every class can be a concept, and no two look alike. Raises DataError that names all that cannot."""
    faults: list[str] = []
    for one in classes:
        try:
            Vocabulary((Concept(one.concept, one.family),))
            if len(one.concept) > LONGEST:
                raise DataError(f"{one.concept!r} has more than {LONGEST} characters")
            if not re.search(r"[^\W\d_]", one.concept):
                raise DataError(f"{one.concept!r} holds no letter")
        except DataError as error:
            faults.append(error.what.rstrip("."))
    if faults:
        what = f"{len(faults)} classes cannot be concepts: {'; '.join(faults[:SHOWN])}."
        action = (
            "name them in a table (--names FILE with the columns label,concept), or leave them out (--skip)."
        )
        raise DataError(what, stage=STAGE, action=action)
    try:
        Vocabulary(tuple(Concept(one.concept, one.family) for one in classes))
    except DataError as error:
        action = "tell them apart in a table (--names FILE with the columns label,concept)."
        raise DataError(error.what, stage=STAGE, action=action) from None


def _check_counts(classes: Sequence[ClassName], rows: Sequence[Row]) -> None:
    """There is something to tell apart: two classes, and two pictures of each. Raises DataError."""
    if len(classes) < 2:
        what = f"only {len(classes)} class is there: a judge tells at least two apart."
        raise DataError(what, stage=STAGE, action="add a folder for each further concept.")
    counts = Counter(row.label for row in rows)
    if few := [one.concept for one in classes if counts[one.label] < 2]:
        what = f"{len(few)} classes have fewer than two pictures: {', '.join(map(repr, few[:SHOWN]))}."
        skips = " ".join(f"--skip {name!r}" for name in few[:SHOWN])
        raise DataError(what, stage=STAGE, action=f"add pictures, or leave them out ({skips}).")
