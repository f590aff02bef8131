"""Whether a data set is what its import wrote, and what the team imported: byte for byte."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.data.importers.records import read_record
from fade.data.manifest import IMPORT, MANIFEST, RECORDS
from fade.utils.files import read_json, write_json
from fade.utils.hashing import sha256_of

if TYPE_CHECKING:
    import pandas as pd

REFERENCE = ".reference.json"
"""Suffix of the file beside a data set's folder that is committed in its place: hashes, and no picture."""
REFERENCED = ("set", "layout", "archives", "options", "licence", "classes", "kept", "manifest_sha256", "key")


@dataclass(frozen=True)
class Findings:
    """The outcome of a comparison."""

    sentences: Mapping[str, str]
    success: bool
    record: Mapping[str, Any]
    licences: tuple[str, ...]
    """In the manifest."""


def reference_file(folder: Path) -> Path:
    """``sets/dogs`` -> ``sets/dogs.reference.json``."""
    return folder.with_name(folder.name + REFERENCE)


def write_reference(folder: Path) -> Path:
    """Write what the team commits of a data set that may not be passed on."""
    record = read_record(folder)
    return write_json(reference_file(folder), {name: record.get(name) for name in REFERENCED})


def verify_set(folder: Path, frame: pd.DataFrame) -> Findings:
    """Compare the pictures with the manifest, the manifest with the import record, the record with the set's
    facts and with the team's reference.

    frame: `fade.data.tables.picture_frame` of the folder."""
    record = read_record(folder)
    wrong = [
        str(name)
        for name, stated, found in zip(frame["path"], frame["sha256"], frame["actual_sha256"], strict=True)
        if stated != found
    ]
    listed = {*frame["path"], *RECORDS}
    over = sorted(
        name
        for path in folder.rglob("*")
        if path.is_file() and (name := path.relative_to(folder).as_posix()) not in listed
    )
    sentences = {"pictures": f"{len(frame):,}, all as the manifest has them"}
    if wrong:
        sentences["pictures"] = f"{len(wrong):,} of {len(frame):,} are missing or changed, as {wrong[0]}"
    if over:
        sentences["over"] = f"{len(over):,} files are in no manifest, as {over[0]}"
    is_whole = not wrong
    if record:
        same = record.get("manifest_sha256") == sha256_of(folder / MANIFEST)
        sentences["record"] = "the manifest is the import's" if same else f"the manifest is not {IMPORT}'s"
        is_whole &= same
        sentences |= _facts(record)
        reference = read_json(reference_file(folder))
        if isinstance(reference, dict):
            agrees = reference.get("manifest_sha256") == record.get("manifest_sha256")
            sentences["team"] = (
                "it is the team's, byte for byte" if agrees else _difference(reference, record)
            )
            is_whole &= agrees
    return Findings(sentences, is_whole, record, tuple(sorted(set(frame["licence"]))))


def _facts(record: Mapping[str, Any]) -> dict[str, str]:
    """The counts beside those of the whole set."""
    sentences = {"layout": str(record.get("layout"))}
    official = record.get("official_counts") or {}
    counts = Counter(record.get("counts") or {})
    differs = [
        f"{split} {counts[split]:,} of {number:,}"
        for split, number in official.items()
        if counts[split] != number
    ]
    if official:
        sentences["counts"] = ", ".join(differs) or "those of the whole set"
    unofficial = [one["name"] for one in record.get("archives", []) if one.get("official") == "no"]
    if official and unofficial:
        sentences["archives"] = f"not the official files: {', '.join(unofficial)}"
    return sentences


def _difference(reference: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    """In which facts an import is not the team's."""
    differs = [name for name in REFERENCED if reference.get(name) != record.get(name)]
    return f"it is not the team's: {', '.join(differs)} differ"
