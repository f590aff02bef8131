"""Locks of folders. The operating system drops them with the process, so a killed run leaves none behind."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fade.errors import BusyError
from fade.utils.files import make_folder, storage_error


@contextmanager
def lock_folder(
    folder: Path, busy: str, stage: str, *, name: str = ".lock", patience: float = 0.0
) -> Iterator[None]:
    """Lock ``folder`` for this process, through the file ``name`` in it.

    Raises BusyError (the sentence ``busy`` and the other process's id) when another process has the lock for
    longer than ``patience`` seconds, StorageError when the file cannot be written.
    """
    make_folder(folder)
    try:
        stream = (folder / name).open("a+", encoding="utf-8")
    except OSError as error:
        raise storage_error(error, folder, stage) from error
    with stream:
        if not _acquired(stream.fileno(), patience):
            stream.seek(0)
            raise _busy(f"{busy} by process {stream.read().strip() or 'unknown'}.", stage)
        try:
            stream.truncate(0)
            stream.write(str(os.getpid()))
            stream.flush()
        except OSError as error:
            raise storage_error(error, folder, stage) from error
        yield


@contextmanager
def lock_directory(folder: Path, busy: str, stage: str, *, patience: float = 0.0) -> Iterator[None]:
    """As `lock_folder`, on the folder itself: no file is left in it, and a checkout stays clean.
    Raises BusyError, StorageError."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise storage_error(error, folder, stage) from error
    try:
        if not _acquired(descriptor, patience):
            raise _busy(f"{busy} by another process.", stage)
        yield
    finally:
        os.close(descriptor)


def _busy(what: str, stage: str) -> BusyError:
    return BusyError(
        what, stage=stage, action="wait for it to end, or stop it; the work done so far is kept."
    )


def _acquired(descriptor: int, patience: float) -> bool:
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.1)
