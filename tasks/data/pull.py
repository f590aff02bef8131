"""Pull (DVC): guard the listing, fetch, check out, rehash. A failed checkout is undone."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from fade.config import DataConfig
from fade.data.dvcfile import STAGE, DvcFile, hash_folder, listing_md5, read_dvc_file
from fade.errors import BusyError, DataError, RemoteError, UnreachableError
from fade.utils.files import storage_error
from fade.utils.hashing import fingerprint
from tasks.data.remote import Remote, opened, shortened
from tasks.launch.environment import configure_environment


@dataclass(frozen=True)
class Pulled:
    """The data set in the workspace; every byte is rehashed."""

    md5: str
    """``<md5>.dir`` of the folder with the pictures: as in its .dvc file, or of what lies there now where
    none tracks it."""
    size: int
    """Bytes of all tracked files."""
    nfiles: int
    path: Path
    """The folder with the pictures."""
    files: dict[str, str] = field(repr=False)
    """Relative path -> md5 of the folder with the pictures; of further ones below their own names."""
    fetched: int = 0
    """Objects that came from the remote (not from the cache)."""
    unlisted: tuple[str, ...] = ()
    """Files in the folder that the data set does not have; left as they are."""
    set_aside: Path | None = None
    """The folder to which ``force`` moved files that had been changed here."""
    dvc_files: dict[str, str] = field(default_factory=dict)
    """.dvc file, as the parameters name it -> its md5."""


def pull(data: DataConfig, repo: Path, runs: Path, *, force: bool = False) -> Pulled:
    """Make the folder that each of ``data.dvc_files`` in ``repo`` tracks equal to it, byte by byte.

    When it is so already, nothing is imported, fetched or written. force: files that were changed here are
    moved below ``runs`` instead of refused. Raises RemoteError (missing, corrupt, hostile), UnreachableError,
    DataError (local changes, a bad .dvc file), StorageError (disk), BusyError (another DVC process); after
    each of them the folder is as it was, and those of earlier files are complete.
    """
    configure_environment(runs)
    dvcfiles = [read_dvc_file(repo / file) for file in data.dvc_files]
    for dvcfile in dvcfiles:
        _check_output(data, dvcfile, repo)
    whole = [_pull_folder(data, dvcfile, repo, runs, force) for dvcfile in dvcfiles]
    return _together(data, repo, whole)


def read_here(data: DataConfig, repo: Path) -> Pulled:
    """As `pull`, of the folders as they are: hashed now, nothing fetched. Raises DataError, OSError."""
    folders = []
    for file in data.dvc_files:
        dvcfile = read_dvc_file(repo / file)
        files = hash_folder(dvcfile.folder)
        folders.append(pulled(dvcfile.folder, listing_md5(files), files))
    return _together(data, repo, folders)


def pictures_md5(data: DataConfig, repo: Path) -> str:
    """``Pulled.md5`` without a pull: of the .dvc file that tracks the pictures, or of their folder as it is.
    Raises DataError, OSError."""
    dvcfiles = [read_dvc_file(repo / file) for file in data.dvc_files]
    tracked = next((one.md5 for one in dvcfiles if _holds(one.folder, repo / data.images)), "")
    return tracked or _untracked(data, repo).md5


def _holds(folder: Path, part: Path) -> bool:
    inside, home = (os.path.normpath(one.absolute()) for one in (part, folder))
    return Path(inside).is_relative_to(home)


def _untracked(data: DataConfig, repo: Path) -> Pulled:
    """The record of pictures that no .dvc file tracks. Raises DataError where there are none."""
    folder = repo / data.images
    files = hash_folder(folder)
    if not files:
        what = f"{folder} holds no pictures" + (" and no .dvc file tracks it." if data.dvc_files else ".")
        action = "import them (`fade data import`), or correct data.images."
        raise DataError(what, stage=STAGE, action=action)
    return pulled(folder, listing_md5(files), files)


def _together(data: DataConfig, repo: Path, tracked: Sequence[Pulled]) -> Pulled:
    """The record of several folders as that of one: first the one that holds the pictures, whether a .dvc
    file tracks them or not."""
    home = [one for one in tracked if _holds(one.path, repo / data.images)] or [_untracked(data, repo)]
    folders = [home[0], *(one for one in tracked if one is not home[0])]
    first, *others = folders
    files = {**first.files}
    unlisted = [*first.unlisted]
    for one in others:
        files |= {f"{one.path.name}/{name}": md5 for name, md5 in one.files.items()}
        unlisted += [f"{one.path.name}/{name}" for name in one.unlisted]
    return replace(
        first,
        size=sum(one.size for one in folders),
        nfiles=sum(one.nfiles for one in folders),
        files=files,
        fetched=sum(one.fetched for one in folders),
        unlisted=tuple(unlisted),
        set_aside=next((one.set_aside for one in folders if one.set_aside), None),
        dvc_files={str(file): one.md5 for file, one in zip(data.dvc_files, tracked, strict=True)},
    )


def _pull_folder(data: DataConfig, dvcfile: DvcFile, repo: Path, runs: Path, force: bool) -> Pulled:
    # left behind only by a pull that was killed; one a folder, or it would be put back into another's
    backup = repo / ".dvc" / "tmp" / f"fade-pull-{fingerprint(os.path.relpath(dvcfile.folder, repo))[:12]}"
    try:
        here = hash_folder(dvcfile.folder)
        if listing_md5(here) == dvcfile.md5 and not backup.exists():
            return pulled(dvcfile.folder, dvcfile.md5, here)
        with opened(repo) as dvc, closing(Remote(dvc, data.remote)) as remote:
            return _update(dvcfile, remote, backup, runs, force)
    except OSError as error:
        action = "make room or mend the folder's permissions, then run again."
        raise storage_error(error, Path(error.filename or repo), STAGE, action) from error


def _check_output(data: DataConfig, dvcfile: DvcFile, repo: Path) -> None:
    """Raises DataError for a folder in which nothing lies that the data section of params.yaml names: a pull
    deletes and writes there, so that ``path: docs`` would be the end of the project's pages. And for a file
    in the folder's place, which DVC would delete."""
    if os.path.lexists(dvcfile.folder) and not dvcfile.folder.is_dir():
        what = f"{dvcfile.folder} is no folder, and {dvcfile.path} tracks one."
        raise DataError(what, stage=STAGE, action="move it away and pull again; nothing was written.")
    folder = os.path.normpath(dvcfile.folder.absolute())
    named = [(repo / one).absolute() for one in (data.images, data.base, data.clip, data.judge)]
    if not any(Path(os.path.normpath(one)).is_relative_to(folder) for one in named):
        what = f"{dvcfile.path}: path {dvcfile.output.as_posix()!r} holds no folder of the section `data`."
        action = "restore it from git, or correct data.images, data.base and data.judge; nothing was written."
        raise DataError(what, stage=STAGE, action=action)


def pulled(folder: Path, md5: str, files: Mapping[str, str], **more: Any) -> Pulled:
    """The record of a folder with this listing's md5 and ``files`` {path: md5}. Raises OSError."""
    size = sum((folder / name).stat().st_size for name in files)
    return Pulled(md5, size, len(files), folder, dict(files), **more)


def _update(dvcfile: DvcFile, remote: Remote, backup: Path, runs: Path, force: bool) -> Pulled:
    folder = dvcfile.folder
    _put_back(backup, folder, hash_folder(backup))
    shutil.rmtree(backup, ignore_errors=True)
    here = hash_folder(folder)  # again, under the lock: another process may just have pulled
    files = remote.listing(dvcfile)
    changed = {name: md5 for name, md5 in files.items() if here.get(name) != md5}
    # The cache gives back what it holds: an unlisted file that it holds belongs to an earlier version of the
    # data and is deleted. Any other unlisted file is the user's and stays.
    uncached = {name for name, md5 in here.items() if not remote.has_cached(md5)}
    edited = [name for name in uncached if name in changed or _clashes(name, files)]
    unlisted = tuple(sorted(uncached - files.keys() - {*edited}))
    if edited and not force:
        what = f"changed here and in no cache: {_listed(dvcfile, edited)}."
        action = "move or delete them and pull again, pull with --force (keeps yours under runs/set-aside)"
        action += ", or track yours with `dvc add`."
        raise DataError(what, stage=STAGE, action=action)
    if not changed and here.keys() <= {*files, *unlisted}:
        return pulled(folder, dvcfile.md5, files, unlisted=unlisted)
    fetched = remote.fetch(dvcfile, changed)
    set_aside = runs.absolute() / "set-aside" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    existed = folder.is_dir()
    for name in here:  # of the cached ones, too: a failed checkout is undone without DVC
        _link(folder / name, backup / name)
    try:
        for name in edited:
            _link(folder / name, set_aside / name)
        _delete(folder, [name for name in here if files.get(name) != here[name]])
        remote.checkout(dvcfile)
        _put_back(backup, folder, unlisted)
        after = hash_folder(folder)
        if wrong := [name for name, md5 in files.items() if after.get(name) != md5]:
            what = f"after the checkout the bytes are not the promised ones: {_listed(dvcfile, wrong)}."
            raise RemoteError(what, stage=STAGE, action="run again; if it stays so, check this disk.")
    except BaseException:
        _delete(folder, hash_folder(folder))
        _put_back(backup, folder, here)
        for rest in (set_aside, backup) if existed else (folder, set_aside, backup):
            shutil.rmtree(rest, ignore_errors=True)
        raise
    shutil.rmtree(backup, ignore_errors=True)
    moved_to = set_aside if edited else None
    return pulled(folder, dvcfile.md5, files, fetched=fetched, unlisted=unlisted, set_aside=moved_to)


def _link(source: Path, target: Path) -> None:
    """Hard link ``source`` to ``target``; copy where the disk cannot, or another disk is."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def _put_back(backup: Path, folder: Path, names: Iterable[str]) -> None:
    """Link those files of ``backup`` that ``folder`` lacks."""
    for name in names:
        if not os.path.lexists(folder / name):
            with suppress(FileExistsError, NotADirectoryError):  # a file where it needs a folder
                _link(backup / name, folder / name)


def _delete(folder: Path, names: Iterable[str]) -> None:
    """Delete files, and every folder that is empty then."""
    for name in names:
        (folder / name).unlink()
    for parent, _, _ in os.walk(folder, topdown=False):
        if Path(parent) != folder:
            with suppress(OSError):  # not empty
                os.rmdir(parent)


def _clashes(name: str, files: Mapping[str, str]) -> bool:
    """True for a file where the data set has a folder, or in a folder where the data set has a file."""
    parents = (parent.as_posix() for parent in PurePosixPath(name).parents)
    return any(other.startswith(f"{name}/") for other in files) or any(parent in files for parent in parents)


def _listed(dvcfile: DvcFile, names: Iterable[str]) -> str:
    return shortened([f"{dvcfile.output.as_posix()}/{name}" for name in sorted(names)])


def worth_a_retry(_task: object, _run: object, state: Any) -> bool:
    """Prefect's retry condition: true for a remote that did not answer and for another pull under way, which
    pass; corrupt or hostile data stay as they are."""
    return isinstance(state.result(raise_on_failure=False), UnreachableError | BusyError)


pull_task = task(
    name="pull",
    retries=2,
    retry_delay_seconds=[2, 5],
    retry_jitter_factor=0.5,
    retry_condition_fn=worth_a_retry,
    cache_policy=NO_CACHE,
)(pull)
