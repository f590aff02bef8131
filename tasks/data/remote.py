"""DVC's side of a pull: the lock, the remote and the cache, with errors that say which file, which remote and
what next."""

from __future__ import annotations

import asyncio
import errno
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fade.errors import BusyError, DataError, RemoteError, UnknownNameError, UnreachableError
from fade.data.dvcfile import Tracked, md5_of, parse_listing

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc_data.hashfile.db import HashFileDB

FIRST_CONTACT_SECONDS = 15.0  # three attempts with their pauses stay under a minute
_T = TypeVar("_T")


class Remote:
    """One remote of an opened DVC repository, and the repository's cache."""

    def __init__(self, repo: Repo, name: str) -> None:
        """Raises UnknownNameError for a remote that .dvc/config does not have, RemoteError when DVC cannot
        use it."""
        from dvc.exceptions import DvcException
        from dvc_objects.fs.base import RemoteMissingDepsError

        known = list(repo.config["remote"])
        if name not in known:
            raise UnknownNameError("remote", name, known, stage="pull")
        self.name, self.url = name, str(repo.config["remote"][name].get("url", ""))
        self.is_folder = False
        self.cache: HashFileDB = repo.cache.local
        try:
            self.odb: HashFileDB = repo.cloud.get_remote_odb(name, "pull")
            self.is_folder = self.odb.fs.protocol == "local"
            self.odb.fs.fs  # noqa: B018 - imports the client library now, outside the clock of the first contact
        except RemoteMissingDepsError as error:
            action = f"install it: pip install 'dvc[{self.url.partition(':')[0]}]'."
            raise RemoteError(f"{self} needs a package that is missing: {error.missing_deps}.", stage="pull", action=action) from error
        except (DvcException, ValueError) as error:
            raise RemoteError(f"{self} cannot be used: {error}.", stage="pull", action="correct .dvc/config.") from error

    def __str__(self) -> str:
        return f"the DVC remote {self.name!r} ({self.root if self.is_folder else self.url})"

    @property
    def root(self) -> Path:
        """The folder of a local remote; its objects lie below it in files/md5."""
        return Path(self.odb.path).parents[1]

    def close(self) -> None:
        """End the client's connections: DVC leaves an HTTP session to the garbage collector, which complains
        aloud."""
        client = None if self.is_folder else self.odb.fs.fs
        session = getattr(client, "_session", None)
        if client is not None and session is not None:
            asyncio.run_coroutine_threadsafe(session.close(), client.loop).result(5)
            client._session = None  # fsspec keeps the client for the next remote of the same address

    def cached(self, md5: str) -> Path:
        """Where the cache keeps an object."""
        return Path(self.cache.oid_to_path(md5))

    def has_cached(self, md5: str) -> bool:
        """True when the cache holds the object with the right bytes. A corrupt one is dropped: DVC would
        trust it for ever."""
        path = self.cached(md5)
        if not path.is_file():
            return False
        if md5_of(path) == md5.removesuffix(".dir"):
            return True
        path.unlink()
        return False

    def listing(self, tracked: Tracked) -> dict[str, str]:
        """{relative path: md5}, from the cache or else the remote, guarded before anything is named after
        it."""
        path = self.cached(tracked.md5)
        if self.has_cached(tracked.md5):
            return parse_listing(path.read_bytes(), tracked, "the local cache")
        raw = self._contact(tracked)
        files = parse_listing(raw, tracked, str(self))
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_bytes(raw)
        temporary.replace(path)
        return files

    def fetch(self, tracked: Tracked, files: Mapping[str, str]) -> int:
        """Bring the objects of ``files`` {path: md5} into the cache; returns how many came from the remote.

        Raises RemoteError that names every file whose object is missing or corrupt, UnreachableError when the
        remote is silent. """
        wanted = sorted({md5 for md5 in files.values() if not self.has_cached(md5)})
        if not wanted:
            return 0
        self._contact(tracked)
        broken: dict[str, BaseException] = {}
        sources = [self.odb.oid_to_path(md5) for md5 in wanted]
        with _silent():
            options = {"on_error": broken.__setitem__, "check_exists": False, "verify": self.odb.verify}
            try:
                self.cache.add(sources, self.odb.fs, wanted, **options)
            except FileNotFoundError:
                # having reported a lone missing object, DVC trips over the file that it did not get
                if not broken:
                    raise
        lost = {md5 for md5 in wanted if not self.has_cached(md5)}
        if lost:
            self._explain(tracked, {name: md5 for name, md5 in files.items() if md5 in lost}, broken)
        return len(wanted)

    def _explain(self, tracked: Tracked, lost: Mapping[str, str], broken: Mapping[str, BaseException]) -> None:
        """Say of each lost file what is wrong with its object, and raise. An object that came and did not
        stay was corrupt."""
        faults: dict[str, list[str]] = {}
        for name, md5 in lost.items():
            error = broken.get(md5)
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
                raise error  # this machine's disk, not the remote
            kind = "corrupt" if error is None else "missing" if isinstance(error, FileNotFoundError) else f"not transferred ({error})"
            faults.setdefault(kind, []).append(f"{tracked.path.as_posix()}/{name} (object {md5})")
        what = f"{self}: " + "; ".join(f"{kind}: {_some(names)}" for kind, names in faults.items()) + "."
        if not {"corrupt", "missing"} & set(faults):
            action = f"run again; what has arrived is kept. If it stays so, check the network to {self.url}."
            raise UnreachableError(what, stage="pull", action=action)
        action = f"push the data again from an intact copy (`dvc push -r {self.name}`); the files here are as they were."
        raise RemoteError(what, stage="pull", action=action)

    def _contact(self, tracked: Tracked) -> bytes:
        """The raw listing from the remote: small, so that silence shows within FIRST_CONTACT_SECONDS."""
        if self.is_folder and not self.root.is_dir():
            action = f"restore the folder (git, mount), or correct the url of {self.name!r} in .dvc/config."
            raise RemoteError(f"{self}: there is no such folder.", stage="pull", action=action)
        try:
            raw: bytes = self._within(lambda: self.odb.fs.cat_file(self.odb.oid_to_path(tracked.md5)))
        except FileNotFoundError:
            what = f"{self} does not hold the listing of {tracked.path}/ (missing: object {tracked.md5})."
            action = f"push the data with `dvc push -r {self.name}`, or pull from another remote (--set data.remote=NAME)."
            raise RemoteError(what, stage="pull", action=action) from None
        return raw

    def _within(self, call: Callable[[], _T], seconds: float = FIRST_CONTACT_SECONDS) -> _T:
        """The call's result. A client library may wait for minutes: after ``seconds`` it is left behind and
        the remote is unreachable."""
        box: dict[str, Any] = {}

        def run() -> None:
            try:
                box["value"] = call()
            except Exception as error:  # whatever a client library of a remote raises
                box["error"] = error

        thread = threading.Thread(target=run, daemon=True, name=f"contact-{self.name}")
        with _silent():
            thread.start()
            thread.join(seconds)
        action = f"check the network, the url of {self.name!r} in .dvc/config and the remote's service, then run again."
        if thread.is_alive():
            raise UnreachableError(f"{self} did not answer within {seconds:.0f} s.", stage="pull", action=action)
        error = box.get("error")
        if isinstance(error, FileNotFoundError):
            raise error
        if isinstance(error, PermissionError) or "credential" in str(error).lower():
            action = f"give this machine read access (`dvc remote modify --local {self.name} ...`, or the AWS_* variables)."
            raise RemoteError(f"{self} refuses access: {error}.", stage="pull", action=action) from error
        if error is not None:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise UnreachableError(f"{self} cannot be reached: {reason}.", stage="pull", action=action) from error
        value: _T = box["value"]
        return value


@contextmanager
def opened(root: Path) -> Iterator[Repo]:
    """The DVC repository at ``root``, locked against every other DVC process.

    Raises DataError when there is none or its configuration is invalid, BusyError when another process keeps
    the lock. """
    from dvc.config import ConfigError
    from dvc.exceptions import NotDvcRepoError
    from dvc.lock import LockError
    from dvc.repo import Repo, lock_repo

    if not (root / ".dvc").is_dir():  # DVC would look in the parent folders, and might find a stranger's
        raise DataError(f"{root} is no DVC repository.", stage="pull", action="run in the project's folder, or `dvc init` it.")
    try:
        # A pull reads and writes data only: it needs no git, and works in an unpacked archive too.
        repo = Repo(str(root), config={"core": {"no_scm": True, "analytics": False, "check_update": False}})
    except (ConfigError, NotDvcRepoError) as error:
        raise DataError(f"{root / '.dvc'}: {error}.", stage="pull", action="correct .dvc/config.") from error
    try:
        with lock_repo(repo):  # DVC's own commands may be called inside
            yield repo
    except LockError as error:
        what = f"another DVC process works in {root}."
        raise BusyError(what, stage="pull", action="wait for it, then run again.") from error
    finally:
        repo.close()


@contextmanager
def _silent() -> Iterator[None]:
    """Without DVC's log lines: what they say is in our errors, by file."""
    loggers = [logging.getLogger(name) for name in ("dvc", "dvc_data", "dvc_objects")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _some(names: list[str], limit: int = 5) -> str:
    head = ", ".join(names[:limit])
    return head if len(names) <= limit else f"{head} and {len(names) - limit} more"
