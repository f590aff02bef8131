"""Lineage in the registry: a version's record read back and held against its tags, and versions found by what
they came from."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.errors import RegistryError, UsageError
from fade.provenance.lineage import Lineage
from tasks.registry.tracking import Tracking, all_versions, connect, download
from tasks.registry.versions import PARTS, resolve

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

STAGE = "lineage"
FILE = "lineage.json"
HASHES = {
    "data": "data_md5",
    "base": "base_sha256",
    "params": "params_sha256",
    "adapter": "adapter_sha256",
    "commit": "commit",
}
"""What can be asked for by a hash or its beginning, and the tag that holds it."""
SHORTEST = 4
_TAMPERED = "do not use it; find out who changed the registry or its artifacts."
_HELD = {
    "data_md5": ("data", "md5"),
    "base_sha256": ("base", "sha256"),
    "params_sha256": ("params", "sha256"),
    "adapter_sha256": ("outputs", "adapter_sha256"),
}


@dataclass(frozen=True)
class Traced:
    """A registered version and where it comes from."""

    name: str
    version: str
    run_id: str
    tags: Mapping[str, str]
    lineage: Lineage

    def to_json(self) -> dict[str, Any]:
        """For ``fade lineage --json``."""
        found = {"name": self.name, "version": self.version, "run_id": self.run_id, "tags": dict(self.tags)}
        return {**found, "lineage_sha256": self.lineage.sha256(), "lineage": dict(self.lineage.content)}


def trace(wanted: str, runs: Path, *, timeout: float = 60.0) -> Traced:
    """The record of one version. ``wanted``: see `tasks.registry.versions.load_version`, but no path.

    Raises RegistryError when the version has no record, or one that its tags contradict: the sentence names
    the field."""
    tracking = connect(runs, timeout=timeout)
    return read(tracking, resolve(tracking, wanted))


def read(tracking: Tracking, version: ModelVersion) -> Traced:
    """As ``trace``, of a version that is at hand."""
    lineage = _record(tracking, version)
    label, tags = f"{version.name}/{version.version}", dict(version.tags)
    for tag, said in {
        "lineage_sha256": lineage.sha256(),
        **{tag: _at(lineage, *where) for tag, where in _HELD.items()},
    }.items():
        if tag in tags and tags[tag] != said:  # versions from before schema 2 have no lineage_sha256
            what = f"{label}: its tag {tag} is {tags[tag]}, its record says {said}."
            raise RegistryError(what, stage=STAGE, action=_TAMPERED)
    if json.loads(tags.get(PARTS, "[]")) != list(lineage.content.get("parts") or ()):
        what = f"{label}: its tag {PARTS} is {tags.get(PARTS, 'missing')}, its record names others."
        raise RegistryError(what, stage=STAGE, action=_TAMPERED)
    return Traced(str(version.name), str(version.version), str(version.run_id), tags, lineage)


def find(
    runs: Path,
    *,
    neighbour: str | None = None,
    hashes: Mapping[str, str] | None = None,
    timeout: float = 60.0,
) -> list[dict[str, Any]]:
    """Every version that came from all that is named, newest first: its name, number and tags.

    hashes: keys of HASHES -> a hash or its first characters. neighbour: a concept that was trained to stay.
    Raises UsageError for nothing named, an unknown key or a beginning that is too short."""
    wanted = {key: text.lower() for key, text in (hashes or {}).items()}
    if not wanted and neighbour is None:
        raise UsageError(
            "nothing is named to look for.",
            stage=STAGE,
            action=f"name one of {', '.join(HASHES)}, neighbour.",
        )
    for key, text in wanted.items():
        if key not in HASHES:
            raise UsageError(
                f"{key!r} is nothing that versions are found by.",
                stage=STAGE,
                action=f"use {', '.join(HASHES)}.",
            )
        if not re.fullmatch(rf"[0-9a-f]{{{SHORTEST},64}}(\.dir)?", text):
            action = f"give its first {SHORTEST} characters or more, 0 to 9 and a to f."
            raise UsageError(f"{text!r} is no hash of {key}.", stage=STAGE, action=action)
    tracking = connect(runs, timeout=timeout)
    found = [v for v in all_versions(tracking) if _came_from(v.tags, wanted, neighbour)]
    found.sort(key=lambda v: (-int(v.creation_timestamp), v.name, -int(v.version)))
    return [{"name": v.name, "version": str(v.version), "tags": dict(v.tags)} for v in found]


def _came_from(tags: Mapping[str, str], wanted: Mapping[str, str], neighbour: str | None) -> bool:
    if neighbour is not None and neighbour not in json.loads(tags.get("neighbours", "[]")):
        return False
    return all(tags.get(HASHES[key], "").startswith(text) for key, text in wanted.items())


def _record(tracking: Tracking, version: ModelVersion) -> Lineage:
    with tempfile.TemporaryDirectory(prefix="fade-lineage-") as scratch:
        found = download(tracking, str(version.run_id), FILE, Path(scratch))
        if found is None:
            what = f"{version.name}/{version.version} has no {FILE}."
            raise RegistryError(
                what, stage=STAGE, action="only versions that `fade run` registered have one."
            )
        return Lineage.load(found)


def _at(lineage: Lineage, *keys: str) -> Any:
    value: Any = lineage.content
    for key in keys:
        value = value.get(key, {})
    return value
