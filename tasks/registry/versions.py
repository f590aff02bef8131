"""Registered versions: how they are called, found and fetched. Knows MLflow, not Prefect."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fade.data.vocabulary import slug
from fade.errors import AdapterError, StorageError, UnknownNameError, UsageError
from fade.utils.hashing import sha256_of
from tasks.registry.decision_log import CHAMPION, REVOKED, is_chain, standing
from tasks.registry.tracking import Tracking, all_versions, connect, faults, hushed

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

ADAPTER = "adapter.safetensors"
LOGGED = "adapter_weights/pytorch_lora_weights.safetensors"
"""Where mlflow.diffusers puts the adapter inside a logged model."""
IDENTITY = ("adapter_sha256", "params_sha256", "run_key", "evaluation_sha256")
"""Tags that make two registrations the same one."""
PARTS = "parts"
"""Tag of a release: the versions it is made of, ``NAME/VERSION``, as JSON."""


def model_name(prefix: str, concept: str) -> str:
    """``("fade", "Grinning cat")`` -> ``"fade-grinning-cat"``."""
    return f"{prefix}-{slug(concept)}"


def find_version(tracking: Tracking, name: str, tags: Mapping[str, str]) -> ModelVersion | None:
    """The version of ``name`` that carries the same IDENTITY tags, or None."""
    for version in all_versions(tracking, name):
        if all(version.tags.get(key) == tags[key] for key in IDENTITY):
            return version
    return None


def load_version(wanted: str, runs: Path = Path("runs"), *, timeout: float = 60.0) -> Path:
    """The adapter file of ``models:/NAME/VERSION``, ``NAME/VERSION``, ``NAME@ALIAS``, ``NAME/latest`` or
    ``NAME``; or of a path.

    A path is an adapter file or a run's folder. A registered version is fetched once into
    ``runs/cache/adapters/<sha256>/`` and its bytes are compared with the version's tag. Raises UsageError
    (malformed), UnknownNameError (no such model or version), AdapterError (other bytes than registered, or no
    safetensors file of ours), RegistryError (the store)."""
    path = Path(wanted)
    if path.suffix == ".safetensors" or path.is_dir():
        path = path / ADAPTER if path.is_dir() else path
        if not path.is_file():
            raise AdapterError(
                f"{path} does not exist.",
                stage="load adapter",
                action="name a run's folder, a file or a version.",
            )
        return path
    tracking = connect(runs, timeout=timeout)
    return fetch(tracking, resolve(tracking, wanted), runs)


def fetch(tracking: Tracking, version: ModelVersion, runs: Path, *, revoked: bool = False) -> Path:
    """As ``load_version``, of a version that is at hand.

    Raises AdapterError for one that was revoked, or of which a part was, too, unless ``revoked`` may come.
    """
    if revoked:
        return _fetch(tracking, version, runs)
    if standing(tracking, str(version.name)).states.get(str(version.version)) == REVOKED:
        what = f"{version.name}/{version.version} was revoked."
        raise AdapterError(
            what,
            stage="load adapter",
            action=f"see why with `fade decisions {version.name}`; use another version.",
        )
    if gone := revoked_parts(tracking, version):
        what = f"{version.name}/{version.version} holds {', '.join(gone)}, which was revoked."
        raise AdapterError(
            what,
            stage="load adapter",
            action="make another with `fade release`, or go back with `fade rollback`.",
        )
    return _fetch(tracking, version, runs)


def parts_of(version: ModelVersion) -> list[str]:
    """The versions that a release is made of, ``NAME/VERSION``; empty for any other version."""
    return [str(label) for label in json.loads(version.tags.get(PARTS, "[]"))]


def revoked_parts(tracking: Tracking, version: ModelVersion) -> list[str]:
    """Those parts of a release that were revoked since."""
    split = [label.rpartition("/") for label in parts_of(version)]
    return [
        f"{name}/{number}"
        for name, _, number in split
        if standing(tracking, name).states.get(number) == REVOKED
    ]


def resolve(tracking: Tracking, wanted: str) -> ModelVersion:
    """The version that is called so (see `load_version`). Raises UsageError (malformed), UnknownNameError,
    RegistryError."""
    match = re.fullmatch(r"(?:models:/)?([^/@:'\"]+?)(?:/([0-9]+|latest)|@([\w.-]+))?", wanted)
    if match is None:
        what = f"{wanted!r} is no model version."
        raise UsageError(
            what, stage="load adapter", action="write fade-panda/1, fade-panda@champion or fade-panda/latest."
        )
    name, number, alias = match.groups()
    versions = all_versions(tracking, name)
    if not versions:
        with faults(tracking.address):
            known = [m.name for m in tracking.client.search_registered_models() if not is_chain(m.name)]
        raise UnknownNameError("model", name, known, stage="load adapter")
    if alias:
        by_alias = _aliases(tracking, name)
        if alias not in by_alias:
            raise UnknownNameError(
                "alias", f"{name}@{alias}", [f"{name}@{a}" for a in by_alias], stage="load adapter"
            )
        number = str(by_alias[alias])
    if number in (None, "latest"):
        return versions[0]
    found = next((v for v in versions if str(v.version) == number), None)
    if found is None:
        raise UnknownNameError(
            "version", f"{name}/{number}", [f"{name}/{v.version}" for v in versions], stage="load adapter"
        )
    return found


def _aliases(tracking: Tracking, name: str) -> dict[str, str]:
    """The model's aliases; who is champion the decisions say, whatever the alias says."""
    with faults(
        tracking.address
    ):  # a search leaves aliases out, and asking for one that does not exist is a plain refusal
        found = {
            alias: str(number) for alias, number in tracking.client.get_registered_model(name).aliases.items()
        }
    decided = standing(tracking, name)
    if decided.decisions:
        found.pop(CHAMPION, None)
        found |= {CHAMPION: decided.champion} if decided.champion else {}
    return found


def _fetch(tracking: Tracking, version: ModelVersion, runs: Path) -> Path:
    from fade.adapters.adapter_file import read_provenance  # torch comes with it

    expected = version.tags.get("adapter_sha256", "")
    label = f"{version.name}/{version.version}"
    if not re.fullmatch(r"[0-9a-f]{64}", expected):
        action = "register it with `fade register RUN_DIR`; versions made otherwise are not loaded."
        raise AdapterError(f"{label} has no adapter_sha256 tag.", stage="load adapter", action=action)
    target = runs / "cache" / "adapters" / expected / ADAPTER
    if target.is_file() and sha256_of(target) == expected:
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".fetch-", dir=target.parent))
    except OSError as error:
        raise StorageError(
            f"{target.parent} cannot be written: {error.strerror}.", stage="load adapter"
        ) from error
    try:
        found = _download(tracking, version, scratch)
        if sha256_of(found) != expected:
            what = f"{label}: the stored adapter has other bytes than were registered."
            raise AdapterError(
                what, stage="load adapter", action="do not use it; find out who changed the artifact store."
            )
        read_provenance(found)  # whatever its tag says: only a safetensors file of ours gets into the cache
        os.replace(found, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def _download(tracking: Tracking, version: ModelVersion, folder: Path) -> Path:
    uri = f"models:/{version.name}/{version.version}/{LOGGED}"
    with faults(tracking.address), hushed():
        import mlflow

        got = mlflow.artifacts.download_artifacts(
            artifact_uri=uri, dst_path=str(folder), tracking_uri=tracking.uri
        )
    return Path(got)
