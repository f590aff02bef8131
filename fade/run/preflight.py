"""What is known before any server starts is refused then: parameters, folders, models, keys, the target."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from fade.config.run import LAYER_ROLES
from fade.data.dvcfile import hash_folder, listing_md5, read_dvc_file, require_utf8
from fade.data.manifest import MANIFEST
from fade.erasers.base import get_eraser
from fade.errors import BaseModelError, ConfigError, DataError, FadeError, SignatureError, UsageError
from fade.models.capabilities import NULL_PROMPT, has_null_prompt, refusal
from fade.models.hub import is_hub_id
from fade.models.layout import (
    JUDGE,
    SECOND_JUDGE,
    check_model,
    files_of,
    pipeline_class,
    read_config,
    resolve,
)
from fade.models.part_files import PartFiles
from fade.models.single_file import refuse_file
from fade.run.context import RunContext
from fade.run.memory import memory_sentence
from fade.run.resolve_params import check_target
from fade.utils.files import make_folder
from fade.utils.notes import note
from fade.utils.reading import SETTINGS, read_bytes

DENOISERS = ("unet", "transformer")
"""Parts of which a base has one."""


def preflight(run: RunContext, *, registers: bool = True, trains: bool = True) -> None:
    """Everything that a run would be refused for later, also for the key with which it ``registers`` and for
    the method by which it ``trains``. Raises UsageError (the target, a parameter, the method), DataError,
    BaseModelError, SignatureError, StorageError.

    A fault of the data that a pull may mend is none: where the data folder is not, byte for byte, what the
    .dvc file names, what lies in it is not looked at. What else is wrong with the data is the data checks'
    to say."""
    check_machine(run)
    if registers:
        _check_key(run)
    _check_names(run)
    data = run.params.data
    checks: list[tuple[str, Callable[[], None]]] = [
        (data.base, lambda: _check_base(run, trains=trains)),
        (data.clip, lambda: _check_model(run, "clip", data.clip)),
        (data.judge, lambda: _check_model(run, "judge", data.judge)),
        (str(data.images), lambda: check_pictures(run)),
        (str(data.images), lambda: _check_targets(run)),
        (data.judge, lambda: check_labels(run)),
        *_second_judge_checks(run),
        (data.base, lambda: _check_family(run)),  # the last: it imports torch
    ]
    tracked = [read_dvc_file(run.root / file).folder for file in data.dvc_files]
    complete: bool | None = None  # known only after hashing, so only when there is a fault
    for where, check in checks:
        try:
            check()
        except FadeError:
            if any(_is_inside(run.root / where, folder) for folder in tracked):
                complete = _nothing_to_pull(run) if complete is None else complete
                if not complete:
                    continue
            raise
    if registers and (line := memory_sentence(run)):
        note(line)


def _second_judge_checks(run: RunContext) -> list[tuple[str, Callable[[], None]]]:
    if not (where := run.params.data.second_judge):
        return []
    return [
        (where, lambda: _check_model(run, SECOND_JUDGE, where, JUDGE)),
        (where, lambda: check_labels(run, SECOND_JUDGE)),
    ]


def check_machine(run: RunContext) -> None:
    """What any heavy command needs: a runs folder that can be written, the devices. Raises StorageError,
    ConfigError.

    How much room a run needs depends on what is made already; a server's is checked when it starts."""
    make_folder(run.runs)
    _check_devices(run)


def _check_devices(run: RunContext) -> None:
    processes = run.params.train.processes
    if processes == 1 or run.params.schedule.train_deployment:
        return
    import torch

    if torch.cuda.is_available() and processes > (devices := torch.cuda.device_count()):
        what = f"train.processes = {processes}, and this machine has {devices} GPU(s)."
        raise ConfigError(what, stage="config", action=f"set train.processes to {devices} or less.")


def _check_key(run: RunContext) -> None:
    """The private key is used only when a version is registered, at the very end of a run."""
    if not (value := run.params.signing.private_key):
        return
    path, action = run.root / value, "correct signing.private_key, or make keys with `fade keys`."
    if not path.is_file():
        missing = "is no file" if os.path.lexists(path) else "does not exist"
        raise SignatureError(f"signing.private_key: {path} {missing}.", stage="sign", action=action)
    try:
        head = read_bytes(path, SETTINGS)[:200]
    except OSError as error:
        what = f"signing.private_key: {path} cannot be read: {error.strerror}."
        raise SignatureError(what, stage="sign", action=action) from error
    if b"PRIVATE KEY-----" not in head:
        raise SignatureError(f"signing.private_key: {path} is no private key.", stage="sign", action=action)
    if b"ENCRYPTED" in head and not os.environ.get("FADE_SIGNING_PASSWORD"):
        what = f"signing.private_key: {path} is locked by a password."
        raise SignatureError(what, stage="sign", action="set FADE_SIGNING_PASSWORD.")


def _base_home(run: RunContext) -> Path | None:
    """As `_local`, of the base, which may be one file with its configurations."""
    if run.params.data.base_config:
        return resolve(run.models.where("base"))
    return _local(run, "base", run.params.data.base)


def _denoiser(home: Path) -> PartFiles:
    return next(part for part in files_of(home, "base") if part.name in DENOISERS)


def _check_base(run: RunContext, *, trains: bool) -> None:
    if (home := _base_home(run)) is None:
        return
    single = bool(run.params.data.base_config)
    if not single and not (index := home / "model_index.json").is_file():
        # before a walk through any folder whatever
        action = "name a directory in diffusers' layout in data.base, or pull the data (`fade pull`)."
        raise BaseModelError(f"{index} is missing.", stage="base", action=action)
    check_model(home, "base")
    denoiser = _denoiser(home)
    if trains:
        _check_method(run, home, denoiser)
    if not single:
        _check_mesh(run, home, denoiser)


def _check_method(run: RunContext, base: Path, denoiser: PartFiles) -> None:
    """The base has the null prompt that a method needs, see `fade.models.capabilities`."""
    method = get_eraser(run.params.method.name, run.params.method.variant)
    config = read_config(denoiser.configs[0])
    if NULL_PROMPT in method.requires and not has_null_prompt(denoiser.kind, config):
        raise refusal(NULL_PROMPT, f"method {method.labels[0]}", str(base), denoiser.kind)


def _check_mesh(run: RunContext, base: Path, denoiser: PartFiles) -> None:
    """Each of mesh.targets ends the name of a layer, as far as the heads of the denoiser's files list them;
    whether it is one that takes an adapter is known once the model is loaded."""
    layers = {f".{name.removesuffix('.weight')}" for name in denoiser.tensors("base")}
    for target in run.params.mesh.targets if layers else ():
        if target not in LAYER_ROLES and not any(layer.endswith(f".{target}") for layer in layers):
            what, action = f"mesh.targets: {target!r} names no layer of {base}.", "correct mesh.targets."
            method = get_eraser(run.params.method.name, run.params.method.variant)
            if any(item.startswith("mesh.targets=") for item in method.settings):
                action = f"name another method, {method.labels[0]} trains these layers, or set mesh.targets."
            raise ConfigError(what, stage="mesh", action=action)


def _check_family(run: RunContext) -> None:
    """The solver, the guidance and the adapter's layers are ones that the base's family has, which its
    configurations name."""
    if (home := _base_home(run)) is None:
        return
    from fade.models.families import known_families

    family = known_families()[pipeline_class(home)]
    family.require_sampler(run.params.sampler, str(home), read_config(_denoiser(home).configs[0]))
    family.require_roles(run.params.mesh.targets, str(home))


def _check_model(run: RunContext, stage: str, where: str, kind: str = "") -> None:
    """A directory in transformers' layout. kind: what it is, where that is not its role."""
    if (folder := _local(run, stage, where)) is None:
        return
    action = f"name a directory that transformers saved in data.{stage}, or pull the data (`fade pull`)."
    if not (config := folder / "config.json").is_file():
        raise BaseModelError(f"{config} is missing.", stage=stage, action=action)
    check_model(folder, kind or stage)


def _local(run: RunContext, stage: str, where: str) -> Path | None:
    """The model's directory; None for a hub id, which is fetched when its turn comes. Raises
    BaseModelError."""
    local = run.models.local(where)
    if is_hub_id(local):
        return None
    refuse_file(local, stage)
    if not (folder := Path(local)).is_dir():
        action = f"name a local directory or a hub id in data.{stage}, or pull the data (`fade pull`)."
        raise BaseModelError(f"{local} is not there.", stage=stage, action=action)
    return folder


def check_pictures(run: RunContext) -> None:
    """There is a manifest. Raises DataError."""
    manifest = run.root / run.params.data.images / MANIFEST
    if not manifest.is_file():
        what = f"{manifest} is no file." if os.path.lexists(manifest) else f"{manifest} does not exist."
        action = "pull the data (`fade pull`), or import pictures of your own (`fade data import`) and name "
        raise DataError(what, stage="manifest", action=f"{action}their folder in data.images.")


def _check_names(run: RunContext) -> None:
    """Names that no pull makes valid."""
    for target in run.targets:
        if not target.isprintable():
            what = f"{target!r} holds characters that cannot be printed."
            raise UsageError(what, stage="target", action="write the concept as the vocabulary does.")
    images = run.root / run.params.data.images
    if (images / MANIFEST).is_file():  # before a walk through any folder whatever
        for parent, folders, names in os.walk(images):
            require_utf8([*folders, *names], parent)


def _check_targets(run: RunContext) -> None:
    try:
        vocabulary = run.vocabulary
    except DataError:
        return  # the data checks name every row that is wrong
    for target in run.targets:
        check_target(run.params, target, vocabulary)
    near = run.params.neighborhood
    if (needed := near.k + near.k_heldout) > (others := len(vocabulary) - len(run.targets)):
        what = f"neighborhood.k and neighborhood.k_heldout ask for {needed} concepts beside the target, and "
        raise ConfigError(f"{what}there are {others}.", stage="config", action="lower one of them.")


def check_labels(run: RunContext, role: str = JUDGE) -> None:
    """The judge knows every name that a run may judge, before anything is made. Raises BaseModelError."""
    if (folder := _local(run, role, getattr(run.params.data, role))) is None:
        return
    try:
        names = run.vocabulary.names
    except DataError:
        return  # the data checks name every row that is wrong
    labels = set(run.judge_labels(role) or ())
    if lacking := [name for name in names if name not in labels]:
        shown = ", ".join(map(repr, lacking[:5])) + ", ..." * (len(lacking) > 5)
        what = f"{folder} does not know {len(lacking)} of the {len(names)} concepts: {shown}."
        action = (
            f"train a judge of these pictures (`fade judge train {run.params.data.images}`), or name one in "
        )
        none = "" if role == JUDGE else " (empty: none)"
        raise BaseModelError(what, stage=role, action=f"{action}data.{role}{none}.")


def _is_inside(path: Path, folder: Path) -> bool:
    return Path(os.path.normpath(path.absolute())).is_relative_to(os.path.normpath(folder.absolute()))


def _nothing_to_pull(run: RunContext) -> bool:
    try:
        dvcfiles = [read_dvc_file(run.root / file) for file in run.params.data.dvc_files]
        return all(listing_md5(hash_folder(dvcfile.folder)) == dvcfile.md5 for dvcfile in dvcfiles)
    except (FadeError, OSError):
        return False
