"""A version's record, read back and compared with its tags; versions searched by what they came from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.errors import FadeError, RegistryError, UsageError
from fade.governance.history import TAMPERED
from fade.governance.stored_values import parse_names
from fade.provenance.lineage import FILE, SELF_TESTS, Lineage
from fade.utils.files import scratch_folder
from tasks.registry.connection import connect
from tasks.registry.log_store import TRUST
from tasks.registry.models import search_versions
from tasks.registry.runs import download_artifact
from tasks.registry.snapshot import RegistrySnapshot
from tasks.registry.trust import Trust
from tasks.registry.versions import PARTS, open_version, parts_of

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

STAGE = "lineage"
SHORTEST = 4
RECORDED = {
    "data": ("data_md5", "data", "md5"),
    "base": ("base_sha256", "base", "sha256"),
    "params": ("params_sha256", "params", "sha256"),
    "adapter": ("adapter_sha256", "outputs", "adapter_sha256"),
}
"""What is hashed -> the tag of a version that holds it, and section and key of the record."""
_SECTIONS = (
    "code",
    "environment",
    "data",
    "base",
    "judge",
    "params",
    "seeds",
    "neighbourhood",
    "inputs",
    "outputs",
)
HASHES = {**{name: tag for name, (tag, *_) in RECORDED.items()}, "commit": "commit"}
"""What versions are searched by, as a hash or its first characters, and the tag that holds it."""


@dataclass(frozen=True)
class Traced:
    """A registered version with its record."""

    name: str
    version: str
    run_id: str
    tags: Mapping[str, str]
    lineage: Lineage

    @property
    def label(self) -> str:
        return f"{self.name}/{self.version}"

    def to_json(self) -> dict[str, Any]:
        """For ``fade lineage --json``."""
        version = {"name": self.name, "version": self.version, "run_id": self.run_id, "tags": dict(self.tags)}
        return {**version, "lineage_sha256": self.lineage.sha256(), "lineage": dict(self.lineage.content)}


def trace(selection: str, runs: Path, trust: Trust = TRUST) -> Traced:
    """`read` one version; ``selection``: see `tasks.registry.versions.load_version`, but no path."""
    return read(*open_version(selection, runs, trust))


def read(snapshot: RegistrySnapshot, version: ModelVersion) -> Traced:
    """A version's record. Raises RegistryError when it has none, or one that its registration or its tags
    contradict: the sentence names the field; SignatureError for a version without a signed registration."""
    with scratch_folder(STAGE) as scratch:
        run = version.run_id  # a stranger's version may have none
        file = download_artifact(snapshot.tracking, run, FILE, scratch) if run else None
        if file is None:
            what = f"{version.name}/{version.version} has no {FILE}."
            action = "only versions that `fade run` registered have one."
            raise RegistryError(what, stage=STAGE, action=action, tampered=True)
        return read_record(snapshot, version, file)


def read_record(snapshot: RegistrySnapshot, version: ModelVersion, file: Path) -> Traced:
    """As `read`, of a record that was fetched already."""
    snapshot.binding(version)
    lineage = _load(file, f"{version.name}/{version.version}")
    content = lineage.content
    traced = Traced(str(version.name), str(version.version), str(version.run_id), dict(version.tags), lineage)
    recorded = {tag: content.get(section, {}).get(key, {}) for tag, section, key in RECORDED.values()}
    for tag, value in {"lineage_sha256": lineage.sha256(), **recorded}.items():
        # versions from before schema 2 have no lineage_sha256
        if tag in traced.tags and traced.tags[tag] != value:
            what = f"{traced.label}: its tag {tag} is {traced.tags[tag]}, its record says {value}."
            raise RegistryError(what, stage=STAGE, action=TAMPERED, tampered=True)
    if parts_of(version) != list(content.get("parts") or ()):
        tagged = traced.tags.get(PARTS, "missing")
        what = f"{traced.label}: its tag {PARTS} is {tagged}, its record names others."
        raise RegistryError(what, stage=STAGE, action=TAMPERED, tampered=True)
    return traced


def recorded_self_tests(snapshot: RegistrySnapshot, version: ModelVersion) -> Mapping[str, Any]:
    """The lineage of a version as far as it holds self-tests; empty for a version without a record, or with
    an older one. Raises as `read_record`."""
    with scratch_folder(STAGE) as scratch:
        file = download_artifact(snapshot.tracking, version.run_id, FILE, scratch) if version.run_id else None
        content = read_record(snapshot, version, file).lineage.content if file else {}
        return {SELF_TESTS: content[SELF_TESTS]} if content.get(SELF_TESTS) else {}


def _load(file: Path, label: str) -> Lineage:
    """A record as the store has it. Raises RegistryError for one that no run can have written."""
    try:
        lineage = Lineage.load(file)
        missing = [name for name in _SECTIONS if not isinstance(lineage.content.get(name), dict)]
    except FadeError as error:
        if not isinstance(error.__cause__, ValueError):
            raise
        missing = ["JSON"]
    if missing:
        what = f"{label}: its {FILE} cannot be read: no {', '.join(missing)}."
        raise RegistryError(what, stage=STAGE, action=TAMPERED, tampered=True)
    return lineage


def find(
    runs: Path, *, neighbour: str | None = None, hashes: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """Every version that came from all that is named, newest first: its name, number and tags.

    hashes: keys of HASHES -> a hash or its first characters. neighbour: a concept that was trained to stay.
    A version whose tag of neighbours cannot be read is among them, and ``unreadable`` says why. Raises
    UsageError for nothing named, an unknown key or too few characters."""
    hashes = {key: text.lower() for key, text in (hashes or {}).items()}
    if not hashes and neighbour is None:
        action = f"name one of {', '.join(HASHES)}, neighbour."
        raise UsageError("nothing is named to look for.", stage=STAGE, action=action)
    for key, text in hashes.items():
        if key not in HASHES:
            what = f"{key!r} is nothing that versions are found by."
            raise UsageError(what, stage=STAGE, action=f"use {', '.join(HASHES)}.")
        if not re.fullmatch(rf"[0-9a-f]{{{SHORTEST},64}}(\.dir)?", text):
            action = f"give its first {SHORTEST} characters or more, 0 to 9 and a to f."
            raise UsageError(f"{text!r} is no hash of {key}.", stage=STAGE, action=action)
    filter_string = " AND ".join(f"tags.{HASHES[key]} LIKE '{text}%'" for key, text in hashes.items())
    versions = search_versions(connect(runs), filter_string)
    unreadable: dict[str, str] = {}
    if neighbour is not None:
        versions = [one for one in versions if _has_neighbour(one, neighbour, unreadable)]
    versions.sort(key=lambda one: (-int(one.creation_timestamp), one.name, -int(one.version)))
    rows = [{"name": one.name, "version": str(one.version), "tags": dict(one.tags)} for one in versions]
    faults = [unreadable.get(f"{row['name']}/{row['version']}") for row in rows]
    return [
        {**row, **({"unreadable": fault} if fault else {})} for row, fault in zip(rows, faults, strict=True)
    ]


def _has_neighbour(version: ModelVersion, neighbour: str, unreadable: dict[str, str]) -> bool:
    label = f"{version.name}/{version.version}"
    try:
        return neighbour in parse_names(version.tags.get("neighbours", "[]"), f"{label}: its tag neighbours")
    except RegistryError as error:
        unreadable[label] = str(error)
        return True
