"""Artifact locations of a store without a server, brought up to date after its runs folder moved.

MLflow stores the absolute address of every artifact folder, and makes a relative one absolute (3.17.2:
``resolve_uri_if_local``). So a runs folder that was moved would look for its artifacts, and write new ones,
at its former place, and a copy would write into the original. The first process that uses a folder under a
new name rewrites the addresses in one transaction; a process that uses it under the former name meanwhile (a
container with another mount) holds a lock that forbids it."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from fade.errors import BusyError
from fade.utils.files import storage_error
from fade.utils.notes import note
from tasks.registry.database_file import ARTIFACTS, DATABASE, STAGE, open_database

LOCK = ".mlflow-in-use.lock"
"""In the runs folder; shared by all processes that use the store, exclusive while addresses are rewritten."""
COLUMNS = (
    *(("experiments", "artifact_location"), ("runs", "artifact_uri"), ("logged_models", "artifact_location")),
    *(("model_versions", "source"), ("model_versions", "storage_location")),
)
"""Where MLflow's database holds addresses of artifacts."""
PATIENCE = 5.0
"""Seconds that another process, which may be rewriting the addresses, is waited for."""
_held: dict[tuple[int, int], int] = {}
"""Device and inode of each lock that this process has -> its descriptor."""


def update_locations(file: Path, runs: Path) -> None:
    """Make the database ``file`` of ``runs`` name the artifacts of this folder, and mark the store as in use
    until this process ends. What was rewritten is a sentence on the error stream.

    An experiment that was given a folder elsewhere stays there. Raises BusyError when another process uses
    the folder under its former name, StorageError, RegistryError (the database is locked or damaged)."""
    home, deadline = runs.absolute() / ARTIFACTS, time.monotonic() + PATIENCE
    lock = _open_lock(runs)
    with open_database(file) as connection:
        while _former_places(connection, home):
            if _acquired(lock, fcntl.LOCK_EX):
                for place, missing in _rewrite_all(connection, home):
                    rest = f" {missing} artifact folders are missing: copy them from {place}."
                    moved = f"{runs} was {place.parent} before; its records name their artifacts here now."
                    note(moved + rest * bool(missing))
            elif time.monotonic() > deadline:
                what = f"{runs} has another name in its records, and another process uses it under that name."
                action = "stop that process (a scheduler, a run, a container), then run again."
                raise BusyError(what, stage=STAGE, action=action)
            else:
                time.sleep(0.05)
        _acquired(lock, fcntl.LOCK_SH)


def _rewrite_all(connection: sqlite3.Connection, home: Path) -> list[tuple[Path, int]]:
    """Rewrite every address of a former place, all or none; the places, each with the number of its artifact
    folders that are there and not here."""
    connection.execute("BEGIN IMMEDIATE")
    places = [
        (place, _rewrite(connection, place, home)) for place in _former_places(connection, home)
    ]  # empty: another process has just done it
    connection.execute("COMMIT")
    return places


def _open_lock(runs: Path) -> int:
    """The descriptor of the lock of ``runs``, also of one that this process took under another name. Raises
    StorageError."""
    try:
        # to read is enough for a lock: the file may be another user's
        lock = os.open(runs / LOCK, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise storage_error(error, runs / LOCK, STAGE) from error
    status = os.fstat(lock)
    known = _held.setdefault((status.st_dev, status.st_ino), lock)
    if known != lock:
        os.close(lock)
    return known


def _acquired(lock: int, mode: int) -> bool:
    """Take the lock, or change the mode in which this process has it. An exclusive one is held for a moment
    only, so a shared one waits."""
    try:
        fcntl.flock(lock, mode | (fcntl.LOCK_NB if mode == fcntl.LOCK_EX else 0))
    except BlockingIOError:
        return False
    return True


def _former_places(connection: sqlite3.Connection, home: Path) -> list[Path]:
    """The ``mlartifacts`` folders of this store under former names of its runs folder."""
    rows = connection.execute("SELECT DISTINCT artifact_location FROM experiments")
    places = {path for (uri,) in rows if (path := _local_path(uri)) is not None}
    return sorted(one for one in places if one.name == ARTIFACTS and _is_former(one, connection, home))


def _is_former(place: Path, connection: sqlite3.Connection, home: Path) -> bool:
    """False for this folder, also under another name (a link), and for a folder elsewhere that was chosen for
    an experiment: one that exists, is in no other runs folder, and whose artifacts are not here."""
    if os.path.realpath(place) == os.path.realpath(home):
        return False
    if not place.exists() or (place.parent / DATABASE).exists():
        return True
    return any((home / part).exists() for part in _artifact_folders(connection, place))


def _artifact_folders(connection: sqlite3.Connection, place: Path) -> list[Path]:
    """The folders of runs and logged models below ``place``, relative to it."""
    columns = [(table, column) for table, column in COLUMNS if table in ("runs", "logged_models")]
    paths = [
        path
        for table, column in columns
        for (uri,) in connection.execute(f"SELECT {column} FROM {table}")
        if (path := _local_path(uri)) is not None
    ]
    return [path.relative_to(place) for path in paths if path.is_relative_to(place)]


def _rewrite(connection: sqlite3.Connection, place: Path, home: Path) -> int:
    """Replace ``place`` by ``home`` in every address; the number of artifact folders that exist there and not
    here."""
    missing = [
        p for p in _artifact_folders(connection, place) if (place / p).exists() and not (home / p).exists()
    ]
    for table, column in COLUMNS:
        for row, uri in connection.execute(f"SELECT rowid, {column} FROM {table}").fetchall():
            path = _local_path(uri)
            if path is not None and path.is_relative_to(place):
                new = (home / path.relative_to(place)).as_uri()
                connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (new, row))
    return len(missing)


def _local_path(uri: str | None) -> Path | None:
    """The absolute path that an address of MLflow's names on this machine; None for any other address."""
    parts = urlsplit(uri or "")
    if parts.scheme not in ("file", "") or parts.netloc:
        return None
    path = Path(url2pathname(parts.path) if parts.scheme else str(uri))
    return path if path.is_absolute() else None
