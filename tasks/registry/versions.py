"""Registered versions: how they are named, resolved and fetched. Knows MLflow, not Prefect."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from fade.errors import AdapterError, UnknownNameError, UsageError
from fade.governance.log_names import is_log
from fade.governance.promotion import CHAMPION, REVOKED
from fade.governance.stored_values import parse_json, parse_names
from fade.utils.files import storage_error
from fade.utils.hashing import sha256_of
from tasks.registry.connection import Tracking, connect
from tasks.registry.log_store import TRUST
from tasks.registry.models import search_models
from tasks.registry.runs import download_adapter
from tasks.registry.snapshot import RegistrySnapshot
from tasks.registry.trust import Trust

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

ADAPTER = "adapter.safetensors"
STAGE = "load adapter"
_SELECTION = re.compile(
    r"(?:models:/)?(?P<name>[^/@:'\"]+?)(?:/(?P<number>[0-9]+|latest)|@(?P<alias>[\w.-]+))?"
)
PARTS = "parts"
"""Tag of a release: the versions it is made of, ``NAME/VERSION``, as JSON."""
STAYS_OUT = "stays_out"
"""Tag of a release that its gate refused: those of its versions that have to stay out -> why, as JSON."""


def load_version(selection: str, runs: Path = Path("runs"), trust: Trust = TRUST) -> Path:
    """The adapter file of ``models:/NAME/VERSION``, ``NAME/VERSION``, ``NAME@ALIAS``, ``NAME/latest``,
    ``NAME``, or a path: an adapter file or a run's folder.

    A registered version is fetched once into ``runs/cache/adapters/<sha256>/`` and its bytes are compared
    with its registration. trust: the team's keys and witness. Raises UsageError (malformed),
    UnknownNameError (no such model or version), AdapterError (other bytes than registered, revoked, or no
    safetensors file of ours), RegistryError (the store, or a registration that was changed), SignatureError,
    PromotionError (decisions that were changed)."""
    path = Path(selection)
    path = path / ADAPTER if path.is_dir() else path
    if path.suffix != ".safetensors":
        return fetch(*open_version(selection, runs, trust), runs)
    if not path.is_file():
        action = "name a run's folder, a file or a version."
        raise AdapterError(f"{path} does not exist.", stage=STAGE, action=action)
    return path


def open_version(selection: str, runs: Path, trust: Trust = TRUST) -> tuple[RegistrySnapshot, ModelVersion]:
    """`load_snapshot` of the store of ``runs``, and `resolve`."""
    snapshot = load_snapshot(connect(runs), selection, trust)
    return snapshot, resolve(snapshot, selection)


def load_snapshot(tracking: Tracking, selection: str, trust: Trust = TRUST) -> RegistrySnapshot:
    """The registry as far as the version ``selection`` (see `load_version`) is concerned. Raises UsageError,
    RegistryError."""
    return RegistrySnapshot.load_model(tracking, _split(selection)[0], trust)


def resolve(snapshot: RegistrySnapshot, selection: str) -> ModelVersion:
    """The version that ``selection`` names (see `load_version`). Raises UsageError (malformed),
    UnknownNameError, RegistryError, PromotionError (an untrusted log)."""
    name, number, alias = _split(selection)
    versions = {str(version.version): version for version in snapshot.versions_of(name)}
    if not versions:
        models = [model.name for model in search_models(snapshot.tracking) if not is_log(model.name)]
        raise UnknownNameError("model", name, models, stage=STAGE)
    if alias:
        aliases = _aliases(snapshot, name)
        if alias not in aliases:
            known = [f"{name}@{one}" for one in aliases]
            raise UnknownNameError("alias", f"{name}@{alias}", known, stage=STAGE)
        number = aliases[alias]
    elif number in (None, "latest"):
        number = next(iter(versions))
    if number not in versions:
        known = [f"{name}/{one}" for one in versions]
        raise UnknownNameError("version", f"{name}/{number}", known, stage=STAGE)
    return versions[number]


def fetch(snapshot: RegistrySnapshot, version: ModelVersion, runs: Path, *, revoked: bool = False) -> Path:
    """As ``load_version``, of a resolved version.

    Raises AdapterError for a version that was revoked, or of which a part was, unless ``revoked``."""
    label = f"{version.name}/{version.version}"
    snapshot.binding(version)
    if not revoked:
        check_not_revoked(snapshot, version)
    return _cached(snapshot.tracking, version, label, runs)


def check_not_revoked(snapshot: RegistrySnapshot, version: ModelVersion) -> None:
    """Raises AdapterError when the version, its adapter's bytes or a part of it was revoked."""
    label = f"{version.name}/{version.version}"
    if revoked := snapshot.revoked_as(version):
        what = (
            f"{label} was revoked." if revoked == label else f"{label} was revoked: it has {revoked}'s bytes."
        )
        action = f"see why with `fade decisions {revoked.rpartition('/')[0]}`; use another version."
        raise AdapterError(what, stage=STAGE, action=action)
    if parts := revoked_parts(snapshot, version):
        what = f"{label} holds {', '.join(parts)}, which was revoked."
        action = "make another with `fade release`, or go back with `fade rollback`."
        raise AdapterError(what, stage=STAGE, action=action)


def parts_of(version: ModelVersion) -> list[str]:
    """The versions that a release is made of, ``NAME/VERSION``; empty for any other version. Raises
    RegistryError for a tag that names none."""
    what = f"{version.name}/{version.version}: its tag {PARTS}"
    return parse_names(version.tags.get(PARTS, "[]"), what)


def stays_out(version: ModelVersion) -> dict[str, str]:
    """Those versions of a release that have to stay out -> why; empty for any other version. Raises
    RegistryError for a tag that holds no such thing."""
    what = f"{version.name}/{version.version}: its tag {STAYS_OUT}"
    found = parse_json(version.tags.get(STAYS_OUT, "{}"), what, dict)
    return {str(label): str(why) for label, why in found.items()}


def revoked_parts(snapshot: RegistrySnapshot, version: ModelVersion) -> list[str]:
    """Those parts of a release that are revoked now, or whose version is gone and was revoked."""
    return [label for label in parts_of(version) if _is_revoked(snapshot, label)]


def _is_revoked(snapshot: RegistrySnapshot, label: str) -> bool:
    if (version := snapshot.version(label)) is not None:
        return bool(snapshot.revoked_as(version))
    name, _, number = label.rpartition("/")
    return snapshot.standing(name).states.get(number) == REVOKED


def _split(selection: str) -> tuple[str, str | None, str | None]:
    """(name, number or ``latest``, alias); the latter two None where they are not given."""
    if (match := _SELECTION.fullmatch(selection)) is None:
        action = "write fade-panda/1, fade-panda@champion or fade-panda/latest."
        raise UsageError(f"{selection!r} is no model version.", stage=STAGE, action=action)
    return match["name"], match["number"], match["alias"]


def _aliases(snapshot: RegistrySnapshot, name: str) -> dict[str, str]:
    """The model's aliases; the decisions say which version is champion, whatever MLflow's alias says."""
    aliases, standing = dict(snapshot.aliases(name)), snapshot.standing(name)
    aliases[CHAMPION] = standing.champion or ""
    return {alias: number for alias, number in aliases.items() if number}


def _cached(tracking: Tracking, version: ModelVersion, label: str, runs: Path) -> Path:
    from fade.adapters.adapter_file import read_provenance  # torch comes with it

    expected = version.tags.get("adapter_sha256", "")
    if not re.fullmatch(r"[0-9a-f]{64}", expected):
        action = "register it with `fade register RUN_DIR`; versions made otherwise are not loaded."
        what = f"{label} has no adapter_sha256 tag."
        raise AdapterError(what, stage=STAGE, action=action, tampered=True)
    target = runs / "cache" / "adapters" / expected / ADAPTER
    if target.is_file() and sha256_of(target) == expected:
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(prefix=".fetch-", dir=target.parent, ignore_cleanup_errors=True)
    except OSError as error:
        raise storage_error(error, target.parent, STAGE) from error
    with scratch as folder:
        fetched = download_adapter(tracking, version, Path(folder))
        if sha256_of(fetched) != expected:
            what = f"{label}: the stored adapter has other bytes than were registered."
            action = "do not use it; find out who changed the artifact store."
            raise AdapterError(what, stage=STAGE, action=action, tampered=True)
        read_provenance(fetched)  # only a safetensors file of ours gets into the cache, whatever its tag says
        os.replace(fetched, target)
    return target
