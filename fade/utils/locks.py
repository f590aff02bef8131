"""Locks of folders. The operating system drops them with the process, so a killed run leaves none behind."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

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
        deadline = time.monotonic() + patience
        while not _acquired(stream):
            if time.monotonic() >= deadline:
                stream.seek(0)
                what = f"{busy} by process {stream.read().strip() or 'unknown'}."
                action = "wait for it to end, or stop it; the work done so far is kept."
                raise BusyError(what, stage=stage, action=action)
            time.sleep(0.1)
        try:
            stream.truncate(0)
            stream.write(str(os.getpid()))
            stream.flush()
        except OSError as error:
            raise storage_error(error, folder, stage) from error
        yield


def _acquired(stream: TextIO) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
