"""What an import writes beside the pictures: manifest, classes, sources, and the record of the import itself.

None of it holds a time or a path of this machine: two imports of one copy with the same options are equal
byte for byte. Who accepted the terms, and when, is in a file of its own."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fade.data.importers.members import STAGE
from fade.data.importers.options import ImportOptions
from fade.data.importers.partial import Kept
from fade.data.importers.picture_set import PictureSet
from fade.data.importers.plan import Plan, Row
from fade.data.manifest import CLASSES, COLUMNS, IMPORT, MANIFEST, SOURCES, SPLITS, TERMS
from fade.errors import DataError, UsageError
from fade.utils.files import read_json, write_json, write_whole
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
    for number, container in enumerate(plan.containers):
        rows = [(row.name, row.size) for row in plan.rows if row.container == number]
        record: dict[str, Any] = {"name": container.path.name, "names": fingerprint(rows)[:16]}
        if container.path.is_dir():
            records.append({**record, "bytes": sum(size for _, size in rows), "sha256": "", "official": ""})
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
    return fingerprint(
        {
            "set": plan.owner.name,
            "options": plan.options.record(),
            "archives": [dict(one) for one in archives],
            "rows": fingerprint([asdict(row) for row in plan.rows]),
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
    kept: Sequence[tuple[Row, Kept]],
    archives: Sequence[Mapping[str, Any]],
    key: str,
    accepted: Accepted | None,
) -> dict[str, Any]:
    """Write the tables and the record below ``folder``; returns it. Raises DataError when a class lost
    all its pictures, StorageError."""
    rows = sorted(((row, one) for row, one in kept if one.path), key=lambda pair: pair[1].path)
    counts = Counter((row.label, row.split) for row, _ in rows)
    if lost := [one.concept for one in plan.classes if not sum(counts[one.label, s] for s in SPLITS)]:
        reasons = Counter(one.left_out for _, one in kept if one.left_out).most_common(1)[0][0]
        what = f"no picture of {', '.join(map(repr, lost[:5]))} can be read: {reasons}."
        raise DataError(what, stage=STAGE, action="fetch the copy again, or leave the class out with --skip.")
    versions = _versions(archives, kept)
    by_label = {one.label: one for one in plan.classes}
    licence = plan.options.licence or plan.owner.licence
    package = plan.owner.title if plan.owner.facts else plan.containers[0].path.resolve().name
    manifest = [
        (
            *(one.path, by_label[row.label].concept, by_label[row.label].family, STYLE, package),
            *(versions[row.container], licence, one.sha256, one.width, one.height, row.split),
        )
        for row, one in rows
    ]
    write_whole(folder / MANIFEST, _table(COLUMNS, manifest))
    classes = [
        (
            *(one.concept, one.label, one.wnid, one.family, "; ".join(one.synonyms), one.spoken),
            *(counts[one.label, split] for split in SPLITS),
        )
        for one in plan.classes
    ]
    head = ("concept", "label", "wnid", "family", "synonyms", "spoken", *SPLITS)
    write_whole(folder / CLASSES, _table(head, classes))
    names = [container.path.name for container in plan.containers]
    sources = [
        (one.path, f"{names[row.container]}/{row.name}", one.source_sha256, one.change) for row, one in rows
    ]
    write_whole(folder / SOURCES, _table(("path", "source", "source_sha256", "change"), sources))
    left_out = dict(plan.left_out) | {one.name: one.left_out for _, one in kept if one.left_out}
    facts = plan.owner.facts
    record = {
        "set": plan.owner.name,
        "title": plan.owner.title,
        "layout": plan.layout.description,
        "lacks": list(plan.layout.lacks),
        "archives": [dict(one) for one in archives],
        "options": dict(plan.options.record()),
        "importer": code_sha256(),
        "licence": licence,
        "terms": plan.owner.terms_name,
        "classes": len(plan.classes),
        "counts": dict(Counter(row.own_split or row.split for row in plan.rows)),
        "official_counts": dict(facts.counts) if facts else {},
        "official_classes": facts.classes if facts else 0,
        "kept": {split: sum(counts[one.label, split] for one in plan.classes) for split in SPLITS},
        "changed": dict(Counter(one.change for _, one in rows if one.change)),
        "left_out": dict(sorted(left_out.items())),
        "other_files": plan.others,
        "manifest_sha256": sha256_of(folder / MANIFEST),
        "key": key,
    }
    if accepted and plan.owner.terms_name:
        write_json(folder / TERMS, asdict(accepted))
    write_json(folder / IMPORT, record)
    return record


def _versions(archives: Sequence[Mapping[str, Any]], kept: Iterable[tuple[Row, Kept]]) -> dict[int, str]:
    """Container -> its version in the manifest: an archive's hash, of a folder that of its pictures."""
    digests = {number: hashlib.sha256() for number in range(len(archives))}
    for row, one in kept:
        digests[row.container].update(f"{row.name}\0{one.source_sha256}\n".encode())
    return {
        number: (str(record["sha256"]) or digests[number].hexdigest())[:12]
        for number, record in enumerate(archives)
    }


def code_sha256() -> str:
    """Of the importers' own files: with which code an import was made."""
    digest = hashlib.sha256()
    here = Path(__file__).parent
    for file in sorted((*here.glob("*.py"), *here.glob("names/*.csv"))):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()
