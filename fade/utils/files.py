"""Atomic writes: under a temporary name, then renamed. The errors of a disk become StorageErrors."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fade.errors import StorageError
from fade.utils.parsing import parse_json
from fade.utils.reading import RECORD, read_text

UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR}
"""Errors of a disk or a folder on a write that a retry does not mend."""
SCARCE = 1 << 20
"""Free bytes below which a failed write counts as a full disk, whatever error the library raised."""


def write_whole(path: Path, body: bytes | str, *, stage: str = "storage", sync: bool = False) -> Path:
    """Write a file so that a reader sees the old one or the new one; a partial file is removed. Raises
    StorageError.

    sync: wait until the bytes are on the disk (a checkpoint must outlive a power cut).
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


def storage_error(error: Exception, path: Path, stage: str = "storage", action: str = "") -> StorageError:
    """The error for a write to ``path`` that failed with ``error``: a full disk, or the error's own text."""
    full = free_bytes(path) < SCARCE or "space" in str(error).lower()
    why = "the disk is full" if full else getattr(error, "strerror", None) or str(error)
    action = action or "free some space, or name another folder with --runs-dir."
    return StorageError(f"{path} cannot be written: {why}.", stage=stage, action=action)


def disk_full(path: Path, stage: str) -> StorageError:
    """The StorageError of a full disk, for a disk that is measured before a write, or without one."""
    return storage_error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), path, stage)


def free_bytes(path: Path) -> int:
    """Free bytes of the disk where ``path`` lies or would lie. Raises OSError."""
    folder = path.absolute()
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def make_folder(folder: Path) -> None:
    """Make a folder and write to it once. Raises StorageError when either fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        try:
            probe.write_bytes(bytes(4096))  # an empty file fits on a full disk
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(error, folder) from error


@contextlib.contextmanager
def scratch_folder(stage: str) -> Iterator[Path]:
    """An empty folder that is removed afterwards. Raises StorageError when none can be made."""
    try:
        scratch = tempfile.TemporaryDirectory(prefix="fade-", ignore_cleanup_errors=True)
    except OSError as error:
        action = "free some space there, or set TMPDIR to another folder."
        where = Path(os.environ.get("TMPDIR") or tempfile.gettempdir())
        raise storage_error(error, where, stage, action) from error
    with scratch as folder:
        yield Path(folder)


def write_json(path: Path, value: Any) -> Path:
    """Write JSON; a reader sees the old file or the new one. Raises StorageError, ValueError for NaN."""
    return write_whole(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The content of a JSON file, or None where none can be read."""
    try:
        return parse_json(read_text(path, RECORD))
    except (OSError, ValueError):
        return None
