"""A version's record, read back and compared with its tags; versions searched by what they came from."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.errors import RegistryError, UsageError
from fade.provenance.lineage import FILE, Lineage
from tasks.registry.connection import Tracking, connect
from tasks.registry.models import search_versions
from tasks.registry.runs import download_artifact
from tasks.registry.versions import PARTS, open_version, parts_of

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

STAGE = "lineage"
SHORTEST = 4
TAMPERED = "do not use it; find out who changed the registry or its artifacts."
RECORDED = {
    "data": ("data_md5", "data", "md5"),
    "base": ("base_sha256", "base", "sha256"),
    "params": ("params_sha256", "params", "sha256"),
    "adapter": ("adapter_sha256", "outputs", "adapter_sha256"),
}
"""What is hashed -> the tag of a version that holds it, and section and key of the record."""
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


def trace(selection: str, runs: Path) -> Traced:
    """`read` one version; ``selection``: see `tasks.registry.versions.load_version`, but no path."""
    snapshot, version = open_version(selection, runs)
    return read(snapshot.tracking, version)


def read(tracking: Tracking, version: ModelVersion) -> Traced:
    """A version's record. Raises RegistryError when it has none, or one that its tags contradict: the
    sentence names the field."""
    with tempfile.TemporaryDirectory(prefix="fade-lineage-") as scratch:
        file = download_artifact(tracking, str(version.run_id), FILE, Path(scratch))
        if file is None:
            what = f"{version.name}/{version.version} has no {FILE}."
            action = "only versions that `fade run` registered have one."
            raise RegistryError(what, stage=STAGE, action=action)
        return compare_tags(version, Lineage.load(file))


def compare_tags(version: ModelVersion, lineage: Lineage) -> Traced:
    """A version with its record. Raises RegistryError when its tags contradict the record."""
    content = lineage.content
    traced = Traced(str(version.name), str(version.version), str(version.run_id), dict(version.tags), lineage)
    recorded = {tag: content.get(section, {}).get(key, {}) for tag, section, key in RECORDED.values()}
    for tag, value in {"lineage_sha256": lineage.sha256(), **recorded}.items():
        # versions from before schema 2 have no lineage_sha256
        if tag in traced.tags and traced.tags[tag] != value:
            what = f"{traced.label}: its tag {tag} is {traced.tags[tag]}, its record says {value}."
            raise RegistryError(what, stage=STAGE, action=TAMPERED)
    if parts_of(version) != list(content.get("parts") or ()):
        tagged = traced.tags.get(PARTS, "missing")
        what = f"{traced.label}: its tag {PARTS} is {tagged}, its record names others."
        raise RegistryError(what, stage=STAGE, action=TAMPERED)
    return traced


def find(
    runs: Path, *, neighbour: str | None = None, hashes: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """Every version that came from all that is named, newest first: its name, number and tags.

    hashes: keys of HASHES -> a hash or its first characters. neighbour: a concept that was trained to stay.
    Raises UsageError for nothing named, an unknown key or too few characters."""
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
    if neighbour is not None:
        versions = [one for one in versions if neighbour in json.loads(one.tags.get("neighbours", "[]"))]
    versions.sort(key=lambda one: (-int(one.creation_timestamp), one.name, -int(one.version)))
    return [{"name": one.name, "version": str(one.version), "tags": dict(one.tags)} for one in versions]
