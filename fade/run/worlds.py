"""The embedded worlds of params.yaml: what `--world NAME` sets, whether a world is here, and which one a
version was made on."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.config import DataConfig, Params, WorldConfig
from fade.data.dvcfile import hash_folder, is_complete, read_dvc_file
from fade.errors import AdapterError, ConfigError, DataError, FadeError, UnknownNameError, nearest
from fade.models.hub import TRACKED
from fade.run.resolve_params import load_params, override, override_path, parse_params

if TYPE_CHECKING:
    from fade.adapters.lora import LoraAdapter
    from fade.run.context import RunContext

STAGE = "world"
HERE, ABSENT, DIFFERS, OTHER = "here", "not here", "differs", "other md5"
"""States of a world: complete; a folder of it was not pulled; changed or in part; its .dvc file names other
data than params.yaml."""


def world_overrides(
    params_file: Path, name: str, overrides: Sequence[str] = (), *, here: bool = False
) -> list[str]:
    """The world's settings, and ``overrides`` after them, which win. here: refuse a world that is not on this
    machine, as `require_here`. Raises UnknownNameError, ConfigError for a .dvc file that names other data
    than params.yaml does, and for parameters that name a part of another world: nothing may switch unseen."""
    params, root = load_params(params_file), params_file.parent
    world = world_of(params, name)
    _check_md5s(name, world, root)
    both = [*_settings(world, params.data), *overrides]
    _check_parts(name, world, _changed(params, both, str(params_file)).data, root)
    if here:
        require_here(params, name, root)
    return both


def _changed(params: Params, overrides: Sequence[str], origin: str) -> Params:
    """``params`` under overrides; no method sets a key of the section `data`. Raises ConfigError."""
    raw = params.model_dump(mode="json", by_alias=True)
    for item in overrides:
        override(raw, item)
    return parse_params(raw, origin)


def _settings(world: WorldConfig, data: DataConfig) -> list[str]:
    """A world's overrides. With a base of its own the section's ``base_config``, which is of another base,
    does not stay, and with a judge of its own no ``second_judge``."""
    items = world.overrides()
    keys = {".".join(override_path(item)) for item in items}
    beside = {"base_config": "data.base", "second_judge": "data.judge"}
    left = [
        key for key, of in beside.items() if getattr(data, key) and of in keys and f"data.{key}" not in keys
    ]
    return [*items, *(f'data.{key}=""' for key in left)]


def world_of(params: Params, name: str) -> WorldConfig:
    """The world of this name. Raises UnknownNameError that offers the nearest name, or else all of them."""
    if name in params.worlds:
        return params.worlds[name]
    error = UnknownNameError("world", name, params.worlds, stage=STAGE)
    if not params.worlds:
        error.action = "name its .dvc files and its settings under `worlds` in params.yaml."
    elif not nearest(name, params.worlds):
        error.action = f"choose one of {', '.join(map(repr, params.worlds))}."
    raise error


def _check_md5s(name: str, world: WorldConfig, root: Path) -> None:
    for file, md5 in world.dvc_files.items():
        action = f"correct worlds.{name}, or restore {file} from git; nothing was switched."
        try:
            named = read_dvc_file(root / file).md5
        except DataError as error:
            raise ConfigError(f"the world {name!r}: {error.what}", stage=STAGE, action=action) from error
        if named != md5:
            what = f"the world {name!r} is {md5} in params.yaml, and {file} names {named}."
            raise ConfigError(what, stage=STAGE, action=action)


def _check_parts(name: str, world: WorldConfig, data: DataConfig, root: Path) -> None:
    """Every part that .dvc files track lies in a folder of this world's."""
    if [str(file) for file in data.dvc_files] != [*world.dvc_files]:
        what = f"data.dvc_file is not that of the world {name!r}."
        raise ConfigError(what, stage=STAGE, action="leave out data.dvc_file, or --world.")
    folders = [read_dvc_file(root / file).folder for file in world.dvc_files]
    tracked = [root / place for place in TRACKED]
    for key in ("images", "base", "base_config", "clip", "judge", "second_judge"):
        where = str(getattr(data, key))
        if _is_inside(root / where, tracked) and not _is_inside(root / where, folders):
            what = f"data.{key} = {where} is no part of the world {name!r}."
            action = f"name one in {' or '.join(map(str, folders))}"
            raise ConfigError(what, stage=STAGE, action=f"{action}, see worlds.{name}.")


def _is_inside(path: Path, folders: Iterable[Path]) -> bool:
    """Whether a path lies in one of the folders: as it is written, or where links lead."""
    ways = (os.path.abspath, os.path.realpath)
    return any(Path(way(path)).is_relative_to(way(one)) for way in ways for one in folders)


def require_here(params: Params, name: str, root: Path) -> None:
    """Raises DataError for a world that is not on this machine byte by byte, OSError."""
    for file in world_of(params, name).dvc_files:
        dvcfile = read_dvc_file(root / file)
        if not is_complete(dvcfile, root):
            what = f"the world {name!r} is not here: {dvcfile.folder} is not what {file} names."
            raise DataError(what, stage=STAGE, action=f"fetch it with `fade pull --world {name}`.")


def list_worlds(params: Params, root: Path) -> list[dict[str, Any]]:
    """A row for each world: ``name``, ``default`` (whether the section `data` has it), ``dvc_files`` {file:
    md5}, ``size`` in bytes (0: not known), ``state`` and ``why``."""
    named = [str(file) for file in params.data.dvc_files]
    rows: list[dict[str, Any]] = []
    for name, world in params.worlds.items():
        default = named == [*world.dvc_files]
        row: dict[str, Any] = {"name": name, "default": default, "dvc_files": dict(world.dvc_files)}
        row |= {"size": 0, "why": ""}
        try:
            _check_md5s(name, world, root)
            dvcfiles = [read_dvc_file(root / file) for file in world.dvc_files]
            row["size"] = sum(dvcfile.size for dvcfile in dvcfiles)
            incomplete = [one.folder for one in dvcfiles if not is_complete(one, root)]
            row["state"] = DIFFERS if any(map(hash_folder, incomplete)) else ABSENT if incomplete else HERE
        except FadeError as error:
            row |= {"state": OTHER, "why": str(error)}
        rows.append(row)
    return rows


def recorded_md5s(record: Mapping[str, Any]) -> set[str]:
    """The md5s of the data of a lineage: one, or one for each .dvc file."""
    data = record["data"]
    return {str(md5) for md5 in (data.get("dvc_files") or {"": data["md5"]}).values()}


def other_world(params: Params, record: Mapping[str, Any], root: Path) -> str:
    """The world that a lineage's data is, where the section `data` of now names other data; "" where it names
    the same, or params.yaml has no such world."""
    md5s = recorded_md5s(record)
    try:
        if {read_dvc_file(root / file).md5 for file in params.data.dvc_files} == md5s:
            return ""
    except DataError:  # no data at all is other data, too
        pass
    return next((name for name, one in params.worlds.items() if {*one.dvc_files.values()} == md5s), "")


def in_world(params: Params, name: str, root: Path) -> Params:
    """``params`` with the world's settings. Raises DataError when it is not here, ConfigError."""
    world = world_of(params, name)
    _check_md5s(name, world, root)
    require_here(params, name, root)
    return _changed(params, _settings(world, params.data), f"the world {name!r}")


def world_hint(params: Params, data_md5: str) -> str:
    """The next action for what was made on this data, when another world of params.yaml has it; else ""."""
    now = [str(file) for file in params.data.dvc_files]
    has = [n for n, one in params.worlds.items() if data_md5 in one.dvc_files.values()]
    others = [name for name in has if [*params.worlds[name].dvc_files] != now]
    if not others:
        return ""
    return f"add --world {' or --world '.join(others)} (`fade pull --world {others[0]}` fetches it)."


def require_base(run: RunContext, adapter: Path) -> None:
    """Raises AdapterError for an adapter of another base whose data is another world's: the sentence names
    the world."""
    from fade.adapters.adapter_file import read_provenance

    facts = read_provenance(adapter)
    sha256, hint = facts.get("base_sha256", ""), world_hint(run.params, facts.get("data_md5", ""))
    if hint and sha256 and not run.models.base.is_base(sha256):
        here = run.models.base.sha256[:12]
        what = f"{adapter} was trained for the base {sha256[:12]} of another world, this base is {here}."
        raise AdapterError(what, stage="load adapter", action=hint)


def load_adapter(run: RunContext, adapter: Path) -> LoraAdapter:
    """The adapter, inserted in the run's base. Raises AdapterError (`require_base`, `LoraAdapter.load`)."""
    from fade.adapters.lora import LoraAdapter

    require_base(run, adapter)
    return LoraAdapter.load(run.models.base, adapter)
