"""DVC behind the pull: the repository's lock, the remote and the cache. Errors name the file, the remote and
the next action, since DVC's own name neither."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fade.data.dvcfile import STAGE, DvcFile, parse_listing
from fade.errors import BusyError, DataError, RemoteError, UnknownNameError, UnreachableError
from fade.redact import redact, redact_address
from fade.utils.files import SCARCE, free_bytes
from fade.utils.hashing import md5_of
from fade.utils.reading import LISTING, SETTINGS, check_regular, read_bytes

if TYPE_CHECKING:
    from dvc.repo import Repo

FIRST_CONTACT_SECONDS = 15.0  # three attempts with their pauses stay under a minute


class Remote:
    """One remote of an opened DVC repository, and the repository's cache."""

    def __init__(self, repo: Repo, name: str) -> None:
        """Raises UnknownNameError for a remote outside .dvc/config, RemoteError when DVC cannot use it."""
        from dvc.exceptions import DvcException
        from dvc_objects.fs.base import RemoteMissingDepsError

        known = list(repo.config["remote"])
        if name not in known:
            raise UnknownNameError("remote", name, known, stage=STAGE)
        self.repo, self.name, self.cache = repo, name, repo.cache.local
        self.url = redact_address(str(repo.config["remote"][name].get("url", "")))
        self.root: Path | None = None  # the folder of a local remote; its objects lie below it in files/md5
        try:
            self.odb = repo.cloud.get_remote_odb(name, "pull")
            # imports the client library now, outside the clock of the first contact
            self.client = self.odb.fs.fs
        except RemoteMissingDepsError as error:
            action = f"install it: pip install 'dvc[{self.url.partition(':')[0]}]'."
            raise self._error(f" needs a package that is missing: {error.missing_deps}.", action) from error
        except (DvcException, ValueError) as error:
            what = f" cannot be used: {redact(str(error))}."
            raise self._error(what, "correct .dvc/config.") from error
        if self.odb.fs.protocol == "local":
            self.root = Path(self.odb.path).parents[1]

    def __str__(self) -> str:
        return f"the DVC remote {self.name!r} ({self.root or self.url})"

    def _error(self, what: str, action: str, kind: type[RemoteError] = RemoteError) -> RemoteError:
        return kind(f"{self}{what}", stage=STAGE, action=action)

    def close(self) -> None:
        """End an HTTP client's session: DVC leaves it to the garbage collector, which prints a warning."""
        session = getattr(self.client, "_session", None)
        if session is not None and not self.root:
            asyncio.run_coroutine_threadsafe(session.close(), self.client.loop).result(5)
            self.client._session = None  # fsspec keeps the client for the next remote of the same address

    def has_cached(self, md5: str) -> bool:
        """True when the cache holds the right bytes. A corrupt object is deleted: DVC would trust it."""
        path = Path(self.cache.oid_to_path(md5))
        if not md5 or not path.is_file():
            return False
        if md5_of(path) == md5.removesuffix(".dir"):
            return True
        path.unlink()
        return False

    def listing(self, dvcfile: DvcFile) -> dict[str, str]:
        """{relative path: md5} from the cache, or else from the remote; guarded before any object is fetched,
        since DVC makes file names of its paths and of its md5s. Raises RemoteError, UnreachableError."""
        if self.has_cached(dvcfile.md5):
            raw = read_bytes(Path(self.cache.oid_to_path(dvcfile.md5)), LISTING)
            return parse_listing(raw, dvcfile, "the local cache")
        files = parse_listing(raw := self._read_listing(dvcfile), dvcfile, str(self))
        self.cache.add_bytes(dvcfile.md5, raw)
        return files

    def fetch(self, dvcfile: DvcFile, files: Mapping[str, str]) -> int:
        """Fetch the objects of ``files`` {path: md5} into the cache and rehash them; returns how many were
        not there. Raises RemoteError that names every file whose object is missing or corrupt,
        UnreachableError when the remote does not answer, OSError when the disk is full."""
        absent = {md5 for md5 in files.values() if not self.has_cached(md5)}
        if not absent:
            return 0
        self._read_listing(dvcfile)  # a remote that does not answer shows here
        failure: Exception | None = None
        with _silent():
            try:
                self.repo.fetch(targets=[str(dvcfile.path)], remote=self.name)
            except Exception as error:  # DVC's, which names no file, or any of a client library's
                failure = error
        lost = {name: md5 for name, md5 in files.items() if not self.has_cached(md5)}
        if lost and free_bytes(Path(self.cache.path)) < SCARCE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.cache.path) from failure
        if lost:
            raise self._lost(dvcfile, lost) from failure
        return len(absent)

    def checkout(self, dvcfile: DvcFile) -> None:
        """Write the files of the listing that the workspace lacks, by the cache's link types. Raises
        StorageError; DVC has then deleted the whole folder."""
        from dvc.exceptions import DvcException

        try:
            with _silent():
                self.repo.checkout(targets=[str(dvcfile.path)], force=True)
        except DvcException as error:
            raise OSError(errno.EIO, "DVC could not write its files", str(dvcfile.folder)) from error

    def _lost(self, dvcfile: DvcFile, lost: Mapping[str, str]) -> RemoteError:
        """The error for the files {path: md5} without an object after a fetch. DVC names none of them: it
        drops corrupt objects and skips missing ones."""
        faults: dict[str, list[str]] = {}
        for name, md5 in lost.items():
            try:
                whole = hashlib.md5(self._read(md5), usedforsecurity=False).hexdigest() == md5
                fault = "not transferred" if whole else "corrupt"
            except FileNotFoundError:
                fault = "missing"
            faults.setdefault(fault, []).append(f"{dvcfile.output.as_posix()}/{name} (object {md5})")
        listed = "; ".join(f"{fault}: {shortened(names)}" for fault, names in faults.items())
        if {*faults} == {"not transferred"}:
            action = f"run again; the rest is kept. If it stays so, check the network to {self.url}."
            return self._error(f": {listed}.", action, UnreachableError)
        action = f"push the data again from an intact copy (`dvc push -r {self.name}`)"
        return self._error(f": {listed}.", f"{action}; the files here are as they were.")

    def _read_listing(self, dvcfile: DvcFile) -> bytes:
        """The raw listing from the remote. It is small: a remote that does not answer shows within
        FIRST_CONTACT_SECONDS."""
        if self.root and not self.root.is_dir():
            action = f"restore the folder (git, mount), or correct the url of {self.name!r} in .dvc/config."
            raise self._error(": there is no such folder.", action)
        try:
            return self._read(dvcfile.md5, FIRST_CONTACT_SECONDS)
        except FileNotFoundError:
            what = f" does not hold the listing of {dvcfile.output}/ (missing: object {dvcfile.md5})."
            action = f"push the data with `dvc push -r {self.name}`"
            action += ", or pull from another remote (--set data.remote=NAME)."
            raise self._error(what, action) from None

    def _read(self, md5: str, seconds: float | None = None) -> bytes:
        """An object of the remote. Its client may wait for minutes: left alone after ``seconds``."""
        future: Future[bytes] = Future()

        def run() -> None:
            try:
                path = self.odb.oid_to_path(md5)
                plain = self.root and md5.endswith(".dir")  # a local listing: a device would never end
                future.set_result(read_bytes(Path(path), LISTING) if plain else self.odb.fs.cat_file(path))
            except Exception as error:  # any of a client library's
                future.set_exception(error)

        with _silent():
            threading.Thread(target=run, daemon=True, name=f"contact-{self.name}").start()
            done = wait([future], seconds).done
        action = f"check the network, the url of {self.name!r} in .dvc/config and the remote's service"
        action += ", then run again."
        if not done:
            raise self._error(f" did not answer within {seconds:.0f} s.", action, UnreachableError)
        error = future.exception()
        if error is None or isinstance(error, FileNotFoundError):
            return future.result()
        reason = redact(str(error))
        if isinstance(error, PermissionError) or "credential" in reason.lower():
            action = f"give this machine read access (`dvc remote modify --local {self.name} ...`"
            action += ", or the AWS_* variables)."
            raise self._error(f" refuses access: {reason}.", action) from error
        reason = f"{type(error).__name__}: {reason}".splitlines()[0]
        raise self._error(f" cannot be reached: {reason}.", action, UnreachableError) from error


@contextmanager
def opened(root: Path) -> Iterator[Repo]:
    """The DVC repository at ``root``, locked against every other DVC process. Raises DataError when there is
    none or its configuration is invalid, BusyError when another process has the lock."""
    from dvc.config import ConfigError
    from dvc.exceptions import NotDvcRepoError
    from dvc.lock import LockError
    from dvc.repo import Repo, lock_repo

    if not (root / ".dvc").is_dir():  # DVC would look in the parent folders, and might find another project's
        action = "run in the project's folder, or `dvc init` it."
        raise DataError(f"{root} is no DVC repository.", stage=STAGE, action=action)
    for path in (root / ".dvc" / "config", root / ".dvc" / "config.local"):
        try:
            if os.path.lexists(path):
                check_regular(path, SETTINGS)  # DVC would wait for a pipe for ever
        except OSError as error:
            what = f"{path} cannot be read: {error}."
            raise DataError(what, stage=STAGE, action="restore it from git, or remove it.") from None
    try:
        # A pull reads and writes data only: it needs no git, and works in an unpacked archive too.
        repo = Repo(str(root), config={"core": {"no_scm": True, "analytics": False, "check_update": False}})
    except (ConfigError, NotDvcRepoError) as error:
        what = f"{root / '.dvc'}: {redact(str(error))}."
        raise DataError(what, stage=STAGE, action="correct .dvc/config.") from error
    try:
        with lock_repo(repo):  # DVC's own commands may be called inside
            yield repo
    except LockError as error:
        what = f"another DVC process works in {root}."
        raise BusyError(what, stage=STAGE, action="wait for it, then run again.") from error
    finally:
        repo.close()


@contextmanager
def opened_to_write(root: Path, remote: str, stage: str, action: str) -> Iterator[tuple[Repo, Remote]]:
    """As `opened`, with a remote that objects are pushed to; the folder of a local one is made. Raises
    RemoteError with the ``action`` for what DVC cannot do."""
    from dvc.exceptions import DvcException

    with opened(root) as dvc, closing(Remote(dvc, remote)) as store:
        if store.root:
            store.root.mkdir(parents=True, exist_ok=True)
        try:
            yield dvc, store
        except DvcException as error:
            raise RemoteError(f"{store}: {redact(str(error))}.", stage=stage, action=action) from error


def shortened(names: list[str], limit: int = 5) -> str:
    """The first ``limit`` names, and the number of the others."""
    head = ", ".join(names[:limit])
    return head if len(names) <= limit else f"{head} and {len(names) - limit} more"


@contextmanager
def _silent() -> Iterator[None]:
    """Without DVC's log lines and progress bars: our errors say the same, by file."""
    loggers = [logging.getLogger(name) for name in ("dvc", "dvc_data", "dvc_objects")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
