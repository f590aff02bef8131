"""Who makes what, between processes that share a cache: a claim on one entry, held while it is made.

A claim is a lock of the operating system on a file below the cache: it ends with its process, so the work of
one that was killed is taken up by the others. Between machines it needs a file system that shares such locks
(NFS does). Nothing is decided by a clock."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fade.utils.files import storage_error

FOLDER = "claims"


@contextmanager
def claimed(root: Path, key: str) -> Iterator[bool]:
    """Inside, whether this process holds the claim on ``key`` of the cache at ``root``; False: another one
    does. Raises StorageError."""
    path = root / FOLDER / key
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise storage_error(error, path, "generate") from error
    try:
        held = _locked(descriptor) and _is_same(descriptor, path)
        try:
            yield held
        finally:
            if held:
                path.unlink(missing_ok=True)  # under the lock: who opened it before finds that it is another
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_same(descriptor: int, path: Path) -> bool:
    """Whether the file that is locked is still the one of this name: its last holder may have removed it."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except OSError:
        return False
