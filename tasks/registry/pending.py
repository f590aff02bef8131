"""The registration that waits in a run's folder: read back, every field checked, for the folder as it lies
now."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from fade.config import Params
from fade.data.manifest import MANIFEST
from fade.errors import ConfigError, RegistryError
from fade.governance.release_plan import release_name
from fade.run.resolve_params import parse_params
from fade.utils.names import TOGETHER, normal_name
from fade.utils.parsing import parse_json
from fade.utils.reading import RECORD, read_text
from tasks.registry.models import model_name

PENDING, DONE = "pending_registration.json", "registration.json"
STAGE = "register"
KINDS = ("erase", "release")
"""A run's folder is RUNS/KIND/NAME/KEY."""
_AGAIN = "run it again with `fade run`."
_NAME = "name the folder of a run that is not registered."
T = TypeVar("T")
Text = Annotated[str, Field(min_length=1, max_length=4096)]


class _Record(BaseModel):
    """The fields that a registration reads; further ones are passed on as they are."""

    model_config = ConfigDict(strict=True, extra="allow")


class _Code(_Record):
    commit: str | None = None


class _Data(_Record):
    md5: Text


class _Hash(_Record):
    sha256: Text


class _Outputs(_Record):
    adapter_sha256: Text


class _Environment(_Record):
    libraries: dict[str, str | None]


class _Neighbourhood(_Record):
    target: Text
    neighbours: list[str]


class _Lineage(_Record):
    code: _Code
    data: _Data
    base: _Hash
    params: _Hash
    outputs: _Outputs
    environment: _Environment
    neighbourhood: _Neighbourhood
    parts: list[str] | dict[str, Any] = []


Numbers = dict[str, float | None]


class _Part(_Record):
    """A concept of a release."""

    metrics: Numbers
    alone: Numbers


class _Result(_Record):
    target: Text
    method: Text
    seed: int
    neighbours: list[str]
    metrics: Numbers
    base_metrics: Numbers
    intervals: dict[str, list[float | None] | None] = {}
    base_intervals: dict[str, list[float | None] | None] = {}
    spatial_consistency: dict[str, Any] | None = None
    target_probability: dict[str, Any] | None = None
    clip_score: dict[str, Any] | None = None
    frechet: dict[str, Any] | None = None
    indirect: dict[str, Any] | None = None
    parts: dict[str, _Part] | None = None


class _Pending(_Record):
    result: _Result
    lineage: _Lineage
    params: dict[str, Any]
    runs: Text
    root: Text
    name: str = ""
    marks: dict[str, str] = {}


class _Done(_Record):
    name: Text
    version: Text
    run_id: Text
    uri: Text


def check_run_folder(run_dir: Path) -> Path:
    """The runs folder of a run that was or is to be registered. Raises RegistryError, before anything is
    written, for a folder that is no run's."""
    folder = run_dir.resolve()
    if not any(os.path.lexists(folder / name) for name in (PENDING, DONE)):
        raise RegistryError(f"{run_dir} has no {PENDING}.", stage=STAGE, action=_NAME)
    if len(folder.parents) < 3:
        what = f"{run_dir} is no run's folder: it lies in no runs folder (RUNS/erase/TARGET/KEY)."
        raise RegistryError(what, stage=STAGE, action="name the folder where the run lies.")
    return folder.parents[2]


def read_done(run_dir: Path) -> dict[str, str] | None:
    """The version that the run was registered as (name, version, run_id, uri); None when it is pending, or
    was never tried. Raises RegistryError that names the field."""
    path = run_dir / DONE
    if os.path.lexists(run_dir / PENDING) or not os.path.lexists(path):
        return None
    done = _validated(_Done, _read(path), path)
    return {key: str(getattr(done, key)) for key in ("name", "version", "run_id", "uri")}


def read_pending(run_dir: Path, registration: type[T]) -> T:
    """The pending registration as a ``registration``, with the run's folder, runs folder and project as they
    lie now. Raises RegistryError that names the field, also of one that the run's record, which stands there
    with it, contradicts; ConfigError for params of another version."""
    path = run_dir / PENDING
    values = _read(path)
    _validated(_Pending, values, path)
    try:
        params = parse_params(values["params"], str(path))
    except ConfigError as error:
        raise RegistryError(error.what, stage=STAGE, action=_AGAIN) from error
    _check_against_record(values, params, path)
    job: Any = TypeAdapter(registration).validate_python({**values, "params": params, "run_dir": run_dir})
    folder = run_dir.resolve()
    if len(folder.parents) > 2 and folder.parents[1].name in KINDS:  # it may have moved, or be a copy
        runs = folder.parents[2]
        beside = Path(os.path.normpath(runs / os.path.relpath(job.root, job.runs)))
        root = beside if (beside / _manifest(params)).is_file() else job.root
        job = replace(job, runs=runs, root=root)
    return job  # type: ignore[no-any-return]


def _check_against_record(values: Mapping[str, Any], params: Params, path: Path) -> None:
    """Raises RegistryError for a concept, neighbours or a model's name other than the record's: the adapter
    would count for a concept that it was not made for."""
    result, record = values["result"], values["lineage"]["neighbourhood"]
    for key in ("target", "neighbours"):
        if result[key] != record[key]:
            what = f"{path}: result.{key} is {result[key]!r:.60}, the record has {record[key]!r:.60}."
            raise RegistryError(what, stage=STAGE, action=_AGAIN)
    for one in result["target"].split(TOGETHER):
        try:
            normal_name(one)
        except ValueError as error:
            raise RegistryError(f"{path}: result.target: {error}.", stage=STAGE, action=_AGAIN) from None
    prefix, name = params.register_.model_prefix, values.get("name", "")
    own = release_name(prefix) if "parts" in values["lineage"] else model_name(prefix, result["target"])
    if name not in ("", own):
        what = f"{path}: name is {name!r:.60}, the record's model is {own}."
        raise RegistryError(what, stage=STAGE, action=_AGAIN)


def _manifest(params: Params) -> Path:
    return params.data.images / MANIFEST


def _read(path: Path) -> Mapping[str, Any]:
    if not os.path.lexists(path):
        raise RegistryError(f"{path.parent} has no {path.name}.", stage=STAGE, action=_NAME)
    try:
        values = parse_json(read_text(path, RECORD))
    except (OSError, ValueError) as error:
        what = f"{path} cannot be read: {' '.join(str(error).split())}."
        raise RegistryError(what, stage=STAGE, action=_AGAIN) from error
    if not isinstance(values, dict):
        raise RegistryError(f"{path} holds no JSON object.", stage=STAGE, action=_AGAIN)
    return values


def _validated(model: type[BaseModel], values: Mapping[str, Any], path: Path) -> BaseModel:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        value = repr(first["input"])[:60]
        reason = "it is missing" if first["type"] == "missing" else f"{value}: {first['msg']}"
        raise RegistryError(f"{path}: {key}: {reason}.", stage=STAGE, action=_AGAIN) from None
