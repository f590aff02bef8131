"""Pull (DVC): fetch -> guard -> stage -> swap in -> rehash. The workspace is untouched until the swap; a
failed swap is undone."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from fade.config import DataConfig
from fade.errors import BusyError, DataError, RemoteError, StorageError, UnreachableError
from fade.data.dvcfile import Tracked, hash_folder, listing_md5, read_dvc_file
from tasks.launch.environment import configure_environment
from tasks.data.remote import Remote, opened


@dataclass(frozen=True)
class Pulled:
    """What lies in the workspace now, every byte rehashed."""

    md5: str
    """``<md5>.dir`` of the data set: the same as in the .dvc file."""
    size: int
    """Bytes of all tracked files."""
    nfiles: int
    path: Path
    """The data folder."""
    files: dict[str, str] = field(repr=False)
    """Relative path -> md5."""
    fetched: int = 0
    """Objects that came from the remote (not from the cache)."""
    unlisted: tuple[str, ...] = ()
    """Files in the folder that the data set does not know; left alone."""
    set_aside: Path | None = None
    """Where ``force`` moved files that had been changed here."""


def pull(data: DataConfig, repo: Path, runs: Path, *, force: bool = False) -> Pulled:
    """Make the folder that ``repo/data.dvc_file`` tracks be what it promises, byte by byte.

    When it is so already, nothing is imported, fetched or written. force: files that were changed here are
    moved below ``runs`` instead of refused. Raises RemoteError (missing, corrupt, hostile), UnreachableError,
    DataError (local changes, a bad .dvc file), StorageError (disk), BusyError (another DVC process); after
    each of them the workspace is as it was."""
    configure_environment(runs)
    tracked = read_dvc_file(repo / data.dvc_file)
    try:
        here = hash_folder(tracked.folder)
        if listing_md5(here) == tracked.md5:
            return _pulled(tracked, here)
        with opened(repo) as dvc, closing(Remote(dvc, data.remote)) as remote:
            return _update(tracked, remote, Path(dvc.tmp_dir or repo / ".dvc" / "tmp"), runs, force)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        where = error.filename or repo
        what = f"the disk is full at {where}." if full else f"{where}: {error.strerror or error}."
        raise StorageError(
            what, stage="pull", action="make room or mend the folder's permissions, then run again."
        ) from error


def _update(tracked: Tracked, remote: Remote, scratch: Path, runs: Path, force: bool) -> Pulled:
    here = hash_folder(tracked.folder)  # again, under the lock: another process may just have pulled
    files = remote.listing(tracked)
    changed = {name: md5 for name, md5 in files.items() if here.get(name) != md5}
    # An unlisted file that the cache knows belongs to an earlier version of the data: it goes. Any other is
    # the user's: it stays.
    leftover = [name for name in here if name not in files and remote.has_cached(here[name])]
    local = [name for name in changed if name in here and not remote.has_cached(here[name])]
    _refuse_clashes(tracked, changed, {*here} - {*leftover})
    if local and not force:
        what = f"changed here and in no cache: {_listed(tracked, local)}."
        action = "move or delete them and pull again, pull with --force (keeps yours under runs/set-aside), or track yours with `dvc add`."
        raise DataError(what, stage="pull", action=action)
    fetched = remote.fetch(tracked, changed)

    work = scratch / "fade-pull"
    shutil.rmtree(work, ignore_errors=True)  # of a pull that was killed; what it had replaced is in the cache
    aside = runs.absolute() / "set-aside" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    try:
        _stage(remote, changed, work / "new")
        with _Swap(tracked.folder) as swap:
            for name in leftover:
                swap.remove(name, work / "old" / name)
            for name in changed:
                swap.replace(name, work / "new" / name, (aside if name in local else work / "old") / name)
            after = hash_folder(tracked.folder)
            wrong = [name for name, md5 in files.items() if after.get(name) != md5]
            if wrong:
                what = f"after the checkout the bytes are not the promised ones: {_listed(tracked, wrong)}."
                raise RemoteError(what, stage="pull", action="run again; if it stays so, check this disk.")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    unlisted = tuple(sorted({*after} - {*files}))
    return _pulled(tracked, files, fetched=fetched, unlisted=unlisted, set_aside=aside if local else None)


def _stage(remote: Remote, files: Mapping[str, str], folder: Path) -> None:
    """Link or copy each object from the cache to ``folder``, by DVC's own link types (reflink or copy unless
    configured)."""
    from dvc_objects.fs.generic import transfer

    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    pairs = [(str(remote.cached(md5)), str(folder / name)) for name, md5 in files.items()]
    if pairs:
        sources, targets = map(list, zip(*pairs, strict=True))
        transfer(remote.cache.fs, sources, remote.cache.fs, targets, links=list(remote.cache.cache_types))


class _Swap:
    """Renames that are undone in reverse when the block fails."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.done: list[tuple[Path, Path | None]] = []  # (file in the workspace, where its old self is kept)

    def __enter__(self) -> _Swap:
        self.existed = self.folder.is_dir()
        self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def replace(self, name: str, new: Path, old: Path) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        self._keep(path, old)
        os.replace(new, path)

    def remove(self, name: str, old: Path) -> None:
        self._keep(self.folder / name, old)

    def _keep(self, path: Path, old: Path) -> None:
        if path.is_dir() and not path.is_symlink():
            # what an earlier version had in it is already removed; the user's own files were refused
            path.rmdir()
        there = os.path.lexists(path)
        self.done.append((path, old if there else None))
        if there:
            old.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, old)  # a set-aside folder may lie on another disk

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for path, old in reversed(self.done) if kind else ():
            if old is None:
                path.unlink(missing_ok=True)
            elif os.path.lexists(old):
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(old, path)
        _drop_empty_folders(self.folder, keep=self.existed or not kind)


def _drop_empty_folders(folder: Path, *, keep: bool) -> None:
    for at, _, _ in os.walk(folder, topdown=False):
        if Path(at) != folder or not keep:
            with suppress(OSError):  # not empty
                os.rmdir(at)


def _refuse_clashes(tracked: Tracked, changed: Iterable[str], staying: set[str]) -> None:
    """A file of the user's where the data set has a folder, or the reverse, cannot be resolved by
    renaming."""
    for name in changed:
        parents = {p.as_posix() for p in PurePosixPath(name).parents} & staying
        below = [other for other in staying if other.startswith(f"{name}/")]
        if parents or below:
            what = f"{_listed(tracked, [*parents, *below])} stands where the data set has {tracked.path.as_posix()}/{name}."
            raise DataError(what, stage="pull", action="move it away, then pull again.")


def _listed(tracked: Tracked, names: list[str], limit: int = 5) -> str:
    head = ", ".join(f"{tracked.path.as_posix()}/{name}" for name in sorted(names)[:limit])
    return head if len(names) <= limit else f"{head} and {len(names) - limit} more"


def _pulled(tracked: Tracked, files: Mapping[str, str], **more: Any) -> Pulled:
    size = sum((tracked.folder / name).stat().st_size for name in files)
    return Pulled(tracked.md5, size, len(files), tracked.folder, dict(files), **more)


def worth_a_retry(_task: object, _run: object, state: Any) -> bool:
    """Prefect asks after a failure: a silent remote may answer now, another pull be over; corrupt or hostile
    data stays what it is."""
    try:
        state.result()
    except (UnreachableError, BusyError):
        return True
    except Exception:
        return False
    return False


pull_task = task(
    name="pull",
    retries=2,
    retry_delay_seconds=[2, 5],
    retry_jitter_factor=0.5,
    retry_condition_fn=worth_a_retry,
    cache_policy=NO_CACHE,
)(pull)
