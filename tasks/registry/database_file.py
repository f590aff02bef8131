"""The sqlite file of a store without a server: examined before MLflow opens it, made whole or not at all.

MLflow creates its tables in any database that lacks some of them, and migrates the rest. So a file of another
program, or of another version, is refused before MLflow sees it, unchanged."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import os
import re
import shlex
import sqlite3
import stat
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote

from fade.errors import RegistryError, StorageError

STAGE = "register"
DATABASE, ARTIFACTS = "mlflow.db", "mlartifacts"
SQLITE = "sqlite:///"
OWN_TABLES = {"alembic_version", "experiments", "runs", "params", "tags"}
"""Tables that every version of MLflow makes."""
BUSY_SECONDS = 20.0
_MAGIC = b"SQLite format 3\0"
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def database_file(uri: str) -> Path | None:
    """The file of an sqlite address, as SQLAlchemy reads it; None for another address, or for one in
    memory."""
    path = uri.removeprefix(SQLITE).partition("?")[0]
    return Path(path) if uri.startswith(SQLITE) and path not in ("", ":memory:") else None


def check_database(file: Path) -> None:
    """Make the file's folder, and examine the file, if there is one, without changing it. Raises StorageError
    (the folder cannot be written), RegistryError (no regular file, no sqlite, a foreign program's, or of
    another version of MLflow)."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(file.parent, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        what = f"{file.parent} cannot be written: {error.strerror}."
        raise StorageError(what, stage=STAGE, action="name another with --runs-dir.") from error
    if not os.path.lexists(file):
        return
    _check_kind(file)
    if file.stat().st_size:  # an empty file is a new database
        with open_database(file) as connection:
            _check_schema(file, connection)


def _check_kind(file: Path) -> None:
    """Raises RegistryError for all but a regular file that is empty or begins as sqlite does."""
    try:
        mode = file.stat().st_mode  # of a link, what it names
        kind = _KINDS.get(stat.S_IFMT(mode), "")
        header = b"" if kind else _head(file)
    except FileNotFoundError:
        kind, header = f"a link to {file.readlink()}, which is missing", b""
    except OSError as error:
        action = "give this user the right to read and write it, or name another folder with --runs-dir."
        raise _refused(f"{file} cannot be read: {error.strerror}.", action) from error
    if kind or header not in (b"", _MAGIC):
        raise _refused(f"{file} is {kind or 'no sqlite database'}.", "move it away; a new one will be made.")


def _head(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(len(_MAGIC))


@contextlib.contextmanager
def open_database(file: Path) -> Iterator[sqlite3.Connection]:
    """The existing database; the block is its own transaction only where it begins one. Raises RegistryError
    for one that is damaged, or locked for longer than BUSY_SECONDS."""
    address = f"file:{quote(os.fspath(file.absolute()))}?mode=rw"  # never made by this
    try:
        with contextlib.closing(
            sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
        ) as connection:
            yield connection
    except sqlite3.Error as error:
        action = "wait for the process that writes it, or put a backup in its place."
        raise _refused(f"{file} cannot be read: {error}.", action) from error


def _check_schema(file: Path, connection: sqlite3.Connection) -> None:
    """Raises RegistryError for tables that are not MLflow's, or of another version of it."""
    tables = {
        str(name) for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")
    }
    if not tables:
        return
    if not tables >= OWN_TABLES:
        shown = ", ".join(sorted(tables)[:3])
        what = f"{file} is no database of MLflow, or no whole one (its tables: {shown}); nothing was changed."
        raise _refused(what, "move it away, or name another folder with --runs-dir.")
    found = [str(revision) for (revision,) in connection.execute("SELECT version_num FROM alembic_version")]
    known, head = schemas()
    if found == [head]:
        return
    here = f"this MLflow, {version('mlflow')}"
    schema = ", ".join(found) or "none"
    if not set(found) <= known:
        what = f"{file} was written by a newer MLflow than {here}: its schema is {schema}, ours {head}."
        action = "install the MLflow that constraints.txt of the newer code names, or move the file away "
        raise _refused(f"{what} Nothing was changed.", f"{action}(a new one will be made).")
    backup = file.with_name(f"{file.name}.{found[0] if found else 'old'}.backup")
    copy, upgrade = (
        shlex.join(["cp", str(file), str(backup)]),
        shlex.join(["mlflow", "db", "upgrade", f"{SQLITE}{file.absolute()}"]),
    )
    what = f"{file} was written by an older MLflow than {here}: its schema is {schema}, ours {head}."
    raise _refused(f"{what} Nothing was changed.", f"make a backup and upgrade it: {copy} && {upgrade}")


def schemas() -> tuple[set[str], str]:
    """Every schema that the installed MLflow knows, and the latest.

    Read from the text of its migrations: to import them takes seconds, and a run wants to know at once."""
    spec = importlib.util.find_spec("mlflow")
    folder = Path(str(spec and spec.origin)).parent / "store" / "db_migrations" / "versions"
    texts = [path.read_text(encoding="utf-8") for path in folder.glob("*.py")]
    named: dict[str, set[str]] = {"revision": set(), "down_revision": set()}
    for key, names in named.items():
        for text in texts:
            if match := re.search(rf"^{key}\b[^=\n]*=(.*)$", text, re.MULTILINE):
                names.update(re.findall(r"[0-9a-f]{8,}", match[1]))
    (head,) = named["revision"] - named["down_revision"]
    return named["revision"], head


def _refused(what: str, action: str) -> RegistryError:
    return RegistryError(what, stage=STAGE, action=action)


def create_database(file: Path, initialise: Callable[[str], object]) -> None:
    """Make a new database whole or not at all: one with half of MLflow's migrations, left by a Ctrl-C, could
    not be opened again. ``initialise`` makes the tables at an address."""
    if file.exists():
        return
    fresh = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        initialise(f"{SQLITE}{fresh.absolute().as_posix()}")
        with contextlib.suppress(FileExistsError):  # another process was faster
            os.link(fresh, file)
    finally:
        fresh.unlink(missing_ok=True)
