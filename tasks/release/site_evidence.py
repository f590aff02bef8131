"""The evidence of a site: what the registry holds, as JSON files below a folder, and read back from there.

Everything that the site shows is made from these files alone, so whoever has the folder can make it again."""

from __future__ import annotations

import json
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.errors import FadeError, RegistryError, RegistryUnreachableError
from fade.provenance.lineage import FILE as RECORD
from fade.reporting.site.data import file_name
from fade.reporting.site.render import PICTURES
from fade.utils import progress
from fade.utils.files import write_whole
from fade.utils.hashing import canonical
from fade.utils.reading import LISTING, PICTURE, read_bytes
from fade.utils.reading import RECORD as RECORD_BYTES
from tasks.registry import signing
from tasks.registry.connection import Tracking
from tasks.registry.runs import download_artifact
from tasks.release.site_folder import encoded

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

    from tasks.registry.snapshot import RegistrySnapshot

STAGE = "site"
FOLDER = "evidence"
SITE, REQUESTS, UNREADABLE = (f"{FOLDER}/{name}.json" for name in ("site", "requests", "unreadable"))
PUBLIC_KEY = f"{FOLDER}/public_key.pem"
WITNESS = f"{FOLDER}/witness.json"
"""Heads of the logs and revoked adapters, as recorded outside of the registry when the site was made."""
MODELS, RECORDS, SIGNATURES = (f"{FOLDER}/{name}" for name in ("models", "records", "signatures"))
PICTURE_FOLDER = "pictures"
_PNG = b"\x89PNG"
_NAME = re.compile(r"name (?P<how>=|LIKE) '(?P<text>[^']*)'")
_PATTERN = {"%": ".*", "_": "."}


def write_models(snapshot: RegistrySnapshot, folder: Path) -> None:
    """One file a model of the snapshot: its tags and aliases, and its versions with their tags. The versions
    of a log are its entries: text and signature are tags, as stored. Addresses of artifacts and descriptions
    are left out. Raises StorageError."""
    for name in sorted({*snapshot.models, *snapshot.versions}):
        model = snapshot.models.get(name)
        content = {
            "name": name,
            "tags": dict(model.tags) if model else {},
            "aliases": {alias: str(number) for alias, number in model.aliases.items()} if model else {},
            "versions": [
                {
                    "version": int(version.version),
                    "created": int(version.creation_timestamp or 0),
                    "run_id": str(version.run_id or ""),
                    "tags": dict(version.tags),
                }
                for version in reversed(snapshot.versions.get(name, []))
            ],
        }
        write_json(folder / MODELS / f"{file_name(name)}.json", content)


def write_records(tracking: Tracking, versions: list[ModelVersion], folder: Path, pictures: bool) -> None:
    """Of each version its record, its signature and, with ``pictures``, its grids. What cannot be fetched is
    a sentence in ``unreadable.json``. Raises RegistryUnreachableError, StorageError."""
    unreadable: dict[str, str] = {}
    for done, version in enumerate(versions):
        label = f"{version.name}/{version.version}"
        progress.report(STAGE, done, len(versions), label)
        try:
            _fetch(tracking, version, label, folder, pictures)
        except RegistryUnreachableError:
            raise
        except (FadeError, OSError) as error:
            unreadable[label] = str(error)
    progress.report(STAGE, len(versions), len(versions), "")
    write_json(folder / UNREADABLE, unreadable)


def _fetch(tracking: Tracking, version: ModelVersion, label: str, folder: Path, pictures: bool) -> None:
    run_id, name = str(version.run_id or ""), file_name(label)
    if not run_id:
        what = f"{label} has no run, so it has no {RECORD}."
        raise RegistryError(what, stage=STAGE, action="see who registered it.")
    with tempfile.TemporaryDirectory(prefix="fade-site-") as scratch:
        if (record := download_artifact(tracking, run_id, RECORD, Path(scratch))) is None:
            what = f"{label} has no {RECORD}."
            raise RegistryError(what, stage=STAGE, action="see who registered it.")
        _copy(record, folder / RECORDS / f"{name}.json")
        if signature := download_artifact(tracking, run_id, signing.FILE, Path(scratch)):
            _copy(signature, folder / SIGNATURES / f"{name}.json")
        grids = download_artifact(tracking, run_id, "pictures", Path(scratch)) if pictures else None
        for grid in PICTURES if grids else ():
            file = grids / grid if grids else Path()
            if file.is_file() and read_bytes(file, PICTURE).startswith(_PNG):
                _copy(file, folder / PICTURE_FOLDER / name / grid)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(read_bytes(source, RECORD_BYTES))


def write_json(path: Path, content: Any) -> None:
    """Write canonical JSON. Raises StorageError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, encoded(canonical(content) + "\n"), stage=STAGE)


def read_json(folder: Path, name: str) -> Any:
    """The content of one evidence file. Raises RegistryError when it is missing or no JSON."""
    try:
        return json.loads(read_bytes(folder / name, LISTING), parse_constant=_finite)
    except (OSError, ValueError, RecursionError) as error:
        what = f"{name} cannot be read: {error}."
        raise RegistryError(what, stage=STAGE, action="make the site again with `fade site`.") from None


def _finite(text: str) -> float:
    raise ValueError(f"{text} is no finite number")


def read_head(folder: Path) -> dict[str, str]:
    """``made_at``, ``generator`` and ``prefix`` of a site. Raises RegistryError when one is missing."""
    content = read_json(folder, SITE)
    try:
        head = {key: content[key] for key in ("made_at", "generator", "prefix")}
        if not all(isinstance(value, str) and value for value in head.values()):
            raise TypeError("a text is empty or of another type")
    except (KeyError, TypeError, IndexError) as error:
        what = f"{SITE} is no head of a site: {error!r}."
        raise RegistryError(what, stage=STAGE, action="make the site again with `fade site`.") from None
    return head


def read_models(folder: Path) -> Tracking:
    """The evidence as a store that is searched as MLflow is, so that logs are read and verified by the same
    functions. Any other request raises RegistryError. Raises RegistryError for a file that is no model."""
    from mlflow.entities import model_registry

    entities: Any = model_registry  # the tags' constructors are not typed

    models: list[RegisteredModel] = []
    versions: list[ModelVersion] = []
    for path in sorted((folder / MODELS).glob("*.json")):
        content = read_json(folder, f"{MODELS}/{path.name}")
        try:
            name = str(content["name"])
            if path.name != f"{file_name(name)}.json":
                raise ValueError(f"it holds the model {name!r}")
            tags = [entities.RegisteredModelTag(key, str(value)) for key, value in content["tags"].items()]
            aliases = [
                entities.RegisteredModelAlias(alias, str(one)) for alias, one in content["aliases"].items()
            ]
            models.append(entities.RegisteredModel(name, tags=tags, aliases=aliases))
            for one in content["versions"]:
                marks = [entities.ModelVersionTag(key, str(value)) for key, value in one["tags"].items()]
                created, run_id = int(one["created"]), str(one["run_id"])
                number = str(int(one["version"]))
                versions.append(entities.ModelVersion(name, number, created, run_id=run_id, tags=marks))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            what = f"{MODELS}/{path.name} is no model: {error!r}."
            raise RegistryError(what, stage=STAGE, action="trust nothing in this folder.") from None
    client: Any = _EvidenceClient(models, versions)
    return Tracking(f"evidence of {folder.name}", client, folder)


@dataclass(frozen=True)
class _EvidenceClient:
    """The searches of MlflowClient that the registry's readers use."""

    models: list[RegisteredModel]
    versions: list[ModelVersion]

    def search_registered_models(self, filter_string: str | None = None, **_: Any) -> Any:
        return _page([model for model in self.models if _matches(filter_string, model.name)])

    def search_model_versions(self, filter_string: str | None = None, **_: Any) -> Any:
        return _page([version for version in self.versions if _matches(filter_string, version.name)])

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        what = f"{name} needs the registry, and a site holds none."
        raise RegistryError(what, stage=STAGE, action="report this: the evidence is read without a store.")


def _page(items: list[Any]) -> Any:
    from mlflow.store.entities import PagedList

    return PagedList(items, None)


def _matches(filter_string: str | None, name: str) -> bool:
    if not filter_string:
        return True
    if (match := _NAME.fullmatch(filter_string)) is None:
        what = f"the evidence cannot be searched by {filter_string!r}."
        raise RegistryError(what, stage=STAGE, action="report this.")
    if match["how"] == "=":
        return name == match["text"]
    pattern = "".join(_PATTERN.get(letter) or re.escape(letter) for letter in match["text"])
    return re.fullmatch(pattern, name, re.DOTALL) is not None
