"""Files that are whole or not there: written under a temporary name, then renamed; a full disk said in the
user's words."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

from fade.errors import StorageError

UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR}
"""What a disk or a folder may answer to a write that no retry mends."""
SCARCE = 1 << 20
"""Bytes left below which a failed write is put down to the disk, whatever the library made of it."""


def write_whole(path: Path, body: bytes | str, *, stage: str = "storage", sync: bool = False) -> Path:
    """Write a file so that a reader sees the old one or the new one; what was half written is removed. Raises
    StorageError.

    sync: wait until the disk has it (a checkpoint must outlive a power cut).
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as stream:
            stream.write(body.encode("utf-8") if isinstance(body, str) else body)
            if sync:
                stream.flush()
                os.fsync(stream.fileno())
        os.replace(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise storage_error(error, path, stage) from error
    return path


def storage_error(error: Exception, path: Path, stage: str = "storage") -> StorageError:
    """A full or unwritable disk, in the user's words."""
    full = free_bytes(path) < SCARCE or "space" in str(error).lower()
    why = "the disk is full" if full else getattr(error, "strerror", None) or str(error)
    action = "free some space, or name another folder with --runs-dir."
    return StorageError(f"{path} cannot be written: {why}.", stage=stage, action=action)


def disk_full(path: Path, stage: str) -> StorageError:
    """For a disk that was found full before, or without, a write that failed."""
    return storage_error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), path, stage)


def free_bytes(path: Path) -> int:
    """Bytes left where ``path`` lies or would lie."""
    folder = path.absolute()
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def make_folder(folder: Path) -> None:
    """Raises StorageError when the folder cannot be made or written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        try:
            probe.write_bytes(bytes(4096))  # an empty file fits on a full disk
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(error, folder) from error


def write_json(path: Path, value: Any) -> Path:
    """Write JSON; a reader sees the old file or the new one. Raises StorageError."""
    return write_whole(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The content of a JSON file, or None when there is none that can be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
