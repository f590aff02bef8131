"""One training a folder, and no launched worker without the process that waits for it."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from fade.errors import BusyError, StorageError, TrainingError
from fade.utils.files import make_folder, storage_error

STAGE = "train"
PARENT = "FADE_PARENT_PID"
"""Environment variable: the process that waits for this one. When it is gone the training stops."""
_PATIENCE = 10.0  # seconds: the orphan of a killed run needs a step to notice that it is one
_LAUNCHER = os.getppid()


@contextmanager
def only_one(folder: Path, patience: float = _PATIENCE) -> Iterator[None]:
    """Hold ``folder`` for this process; the lock goes with the process.

    Raises BusyError when another has it for longer than ``patience`` seconds, StorageError when it cannot be
    written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = (folder / ".trainer.lock").open("w")
    except OSError as error:
        action = "free some space, or choose another --runs-dir."
        raise StorageError(
            f"{folder} cannot be written: {error.strerror}.", stage=STAGE, action=action
        ) from error
    with stream:
        until = time.monotonic() + patience
        while not _locked(stream):
            if time.monotonic() > until:
                raise BusyError(
                    f"another training writes to {folder}.",
                    stage=STAGE,
                    action="wait for it to end, or stop it.",
                )
            time.sleep(0.1)
        yield


def parent_lives() -> None:
    """Raises TrainingError when the waiting process, or the launcher between, is gone (killed -9, say): do
    not train on."""
    pid = int(os.environ.get(PARENT, "0"))
    if pid and (os.getppid() != _LAUNCHER or not _alive(pid)):
        raise TrainingError(
            "the process that started this training is gone.",
            stage=STAGE,
            action="start it again: it resumes.",
        )


def _locked(stream: TextIO) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def hold(folder: Path, busy: str, stage: str) -> Iterator[None]:
    """Hold the lock of ``folder``. Raises BusyError: ``busy`` and the process that has it. StorageError when
    it cannot be made."""
    make_folder(folder)
    with (folder / ".lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            action = "wait for it to end, or stop it; the work done so far is kept."
            raise BusyError(f"{busy} by process {holder}.", stage=stage, action=action) from None
        try:
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
        except OSError as error:
            raise storage_error(error, folder, stage) from error
        yield  # the lock goes with the process, so a killed run leaves none behind
