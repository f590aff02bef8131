"""What an import writes beside the pictures: manifest, classes, sources, and the record of the import itself.

None of it holds a time or a path of this machine: two imports of one copy with the same options are equal
byte for byte. Who accepted the terms, and when, is in a file of its own."""

from __future__ import annotations

import csv
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fade.data.importers.members import STAGE
from fade.data.importers.options import ImportOptions
from fade.data.importers.partial import Finished
from fade.data.importers.picture_set import PictureSet
from fade.data.importers.plan import Plan
from fade.data.manifest import CLASSES, COLUMNS, IMPORT, MANIFEST, SOURCES, SPLITS, TERMS
from fade.errors import DataError, UsageError
from fade.utils.files import read_json, write_json
from fade.utils.hashing import fingerprint, sha256_of
from fade.utils.progress import report
from fade.utils.reading import GIB

STYLE = "photograph"
HASHED = 16 * GIB
"""Bytes up to which an archive is hashed; a larger one (ImageNet's training pictures: a quarter of an hour)
is known by its size and the names in it."""


@dataclass(frozen=True)
class Accepted:
    """Who accepted a set's terms, and when."""

    terms: str
    by: str
    at: str
    """ISO 8601, UTC."""


def accept_terms(owner: PictureSet, name: str, by: str) -> Accepted | None:
    """The acceptance of a set's terms, now; None for a set without any. Raises UsageError unless ``name`` is
    theirs."""
    if not owner.terms:
        return None
    if name != owner.terms_name:
        what = f"{owner.title} comes with terms: {owner.terms}."
        action = f"read them, and accept them with --accept {owner.terms_name}."
        raise UsageError(what, stage=STAGE, action=action)
    return Accepted(name, by, datetime.now(UTC).isoformat(timespec="seconds"))


def require_licence(owner: PictureSet, options: ImportOptions) -> None:
    """Raises UsageError for one's own pictures without a licence, or with a text that is none."""
    if owner.licence and options.licence:
        what = f"{owner.title} has its own licence, {owner.licence}."
        raise UsageError(what, stage=STAGE, action="leave --licence out.")
    if not owner.licence and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]{1,79}", options.licence):
        what = f"{options.licence!r} is no licence" if options.licence else "the pictures have no licence"
        action = "name it with --licence: an SPDX id such as CC0-1.0, or LicenseRef-NAME for one of your own."
        raise UsageError(f"{what}.", stage=STAGE, action=action)


def archive_records(plan: Plan) -> list[dict[str, Any]]:
    """Of each container: name, bytes, sha256 ("" for a folder and for one that is too large), whether it is
    the official file ("yes", "no", "by size"; "" for a folder), and the hash of the names and sizes in it."""
    facts = plan.owner.facts.archives if plan.owner.facts else {}
    records: list[dict[str, Any]] = []
    names, sizes = [hashlib.sha256() for _ in plan.containers], Counter[int]()
    for row in plan.rows:
        names[row.container].update(f"{row.name}\0{row.size}\n".encode())
        sizes[row.container] += row.size
    for number, container in enumerate(plan.containers):
        record: dict[str, Any] = {"name": container.path.name, "names": names[number].hexdigest()[:16]}
        if container.path.is_dir():
            records.append({**record, "bytes": sizes[number], "sha256": "", "official": ""})
            continue
        size = container.path.stat().st_size
        report("hash", number, len(plan.containers), container.path.name)
        sha256 = sha256_of(container.path) if size <= HASHED else ""
        known = facts.get(container.path.name)
        official = "no"
        if known and known.size == size:
            official = "by size" if not sha256 else "yes" if sha256.startswith(known.sha256) else "no"
        records.append({**record, "bytes": size, "sha256": sha256, "official": official})
    return records


def import_key(plan: Plan, archives: Sequence[Mapping[str, Any]]) -> str:
    """Hash of everything that decides the bytes of an import."""
    rows = hashlib.sha256()
    for row in plan.rows:  # one at a time: there may be a million
        rows.update(f"{row!r}\n".encode())
    return fingerprint(
        {
            "set": plan.owner.name,
            "options": plan.options.record(),
            "archives": [dict(one) for one in archives],
            "rows": rows.hexdigest(),
            "classes": fingerprint([asdict(one) for one in plan.classes]),
        }
    )


def read_record(folder: Path) -> dict[str, Any]:
    """The import record of a data set; empty where there is none."""
    record = read_json(folder / IMPORT)
    return record if isinstance(record, dict) else {}


def write_records(
    folder: Path,
    plan: Plan,
    finished: Finished,
    leaks: Mapping[int, str],
    archives: Sequence[Mapping[str, Any]],
    key: str,
    accepted: Accepted | None,
) -> dict[str, Any]:
    """Write the tables and the record below ``folder``; returns it.

    leaks: rows that are left out although their pictures are whole -> why. Raises DataError when a class
    lost all its pictures, StorageError."""
    kept: list[tuple[str, int]] = []
    reasons: dict[str, str] = {}
    counts: Counter[tuple[str, str]] = Counter()
    for result in finished:
        row = plan.rows[result.row]
        if why := result.left_out or leaks.get(result.row, ""):
            reasons[row.name] = why
        else:
            kept.append((result.path, result.row))
            counts[row.label, row.split] += 1
    if lost := [one.concept for one in plan.classes if not sum(counts[one.label, s] for s in SPLITS)]:
        reason = Counter(reasons.values()).most_common(1)[0][0]
        what = f"no picture of {', '.join(map(repr, lost[:5]))} can be read: {reason}."
        raise DataError(what, stage=STAGE, action="fetch the copy again, or leave the class out with --skip.")
    changed = _write_tables(folder, plan, finished, sorted(kept), _versions(plan, archives, finished))
    head = ("concept", "label", "wnid", "family", "synonyms", "spoken", *SPLITS)
    with _table(folder / CLASSES, head) as add_class:
        for one in plan.classes:
            names = (one.concept, one.label, one.wnid, one.family, "; ".join(one.synonyms), one.spoken)
            add_class((*names, *(counts[one.label, split] for split in SPLITS)))
    facts = plan.owner.facts
    record = {
        "set": plan.owner.name,
        "title": plan.owner.title,
        "layout": plan.layout.description,
        "lacks": list(plan.layout.lacks),
        "archives": [dict(one) for one in archives],
        "options": dict(plan.options.record()),
        "importer": code_sha256(),
        "licence": _licence(plan),
        "terms": plan.owner.terms_name,
        "classes": len(plan.classes),
        "counts": dict(Counter(row.own_split or row.split for row in plan.rows)),
        "official_counts": dict(facts.counts) if facts else {},
        "official_classes": facts.classes if facts else 0,
        "kept": {split: sum(counts[one.label, split] for one in plan.classes) for split in SPLITS},
        "changed": changed,
        "left_out": dict(sorted((dict(plan.left_out) | reasons).items())),
        "other_files": plan.others,
        "manifest_sha256": sha256_of(folder / MANIFEST),
        "key": key,
    }
    if accepted and plan.owner.terms_name:
        write_json(folder / TERMS, asdict(accepted))
    write_json(folder / IMPORT, record)
    return record


def _licence(plan: Plan) -> str:
    return plan.options.licence or plan.owner.licence


def _write_tables(
    folder: Path,
    plan: Plan,
    finished: Finished,
    kept: Sequence[tuple[str, int]],
    versions: Mapping[int, str],
) -> dict[str, int]:
    """Write the manifest and the sources of the ``kept`` pictures (path, row), one row at a time; returns how
    many pictures had which change."""
    by_label = {one.label: one for one in plan.classes}
    package = plan.owner.title if plan.owner.facts else plan.containers[0].path.resolve().name
    containers = [container.path.name for container in plan.containers]
    licence, changed = _licence(plan), Counter[str]()
    with (
        _table(folder / MANIFEST, COLUMNS) as add_picture,
        _table(folder / SOURCES, ("path", "source", "source_sha256", "change")) as add_source,
    ):
        for path, number in kept:
            one, row = finished[number], plan.rows[number]
            name = by_label[row.label]
            about = (path, name.concept, name.family, STYLE, package, versions[row.container], licence)
            add_picture((*about, one.sha256, one.width, one.height, row.split))
            source = f"{containers[row.container]}/{row.name}"
            add_source((path, source, one.source_sha256, one.change))
            changed.update([one.change] if one.change else [])
    return dict(changed)


def _versions(plan: Plan, archives: Sequence[Mapping[str, Any]], finished: Finished) -> dict[int, str]:
    """Container -> its version in the manifest: an archive's hash, else that of the pictures in it."""
    found = {number: str(record["sha256"])[:12] for number, record in enumerate(archives)}
    unknown = {number: hashlib.sha256() for number, version in found.items() if not version}
    for number, row in enumerate(plan.rows):
        if row.container in unknown:
            line = f"{row.name}\0{finished[number].source_sha256}\n"
            unknown[row.container].update(line.encode())
    return found | {number: digest.hexdigest()[:12] for number, digest in unknown.items()}


def code_sha256() -> str:
    """Of the importers' own files: with which code an import was made."""
    digest = hashlib.sha256()
    here = Path(__file__).parent
    for file in sorted((*here.glob("*.py"), *here.glob("names/*.csv"))):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


@contextmanager
def _table(path: Path, head: Sequence[str]) -> Iterator[Callable[[Sequence[object]], object]]:
    """Write a CSV table row by row, in a folder that nobody reads yet."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(head)
        yield writer.writerow
