"""Atomic writes: under a temporary name, then renamed. The errors of a disk become StorageErrors.

A link is followed: its target is replaced, and the link stays one. What is replaced hands on its mode, and
its owner as far as the system lets us; a new file has the mode that the umask leaves. Nothing but a regular
file is replaced: no device, pipe, socket or folder.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fade.errors import StorageError
from fade.utils.parsing import parse_json
from fade.utils.reading import RECORD, open_regular, read_text

UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR}
"""Errors of a disk or a folder on a write that a retry does not mend."""
SCARCE = 1 << 20
"""Free bytes below which a failed write counts as a full disk, whatever error the library raised."""


def write_whole(path: Path, body: bytes | str, *, stage: str = "storage", sync: bool = False) -> Path:
    """Write a file so that a reader sees the old one or the new one; a partial file is removed. Raises
    StorageError.

    sync: outlive a power cut. The order: the bytes reach the disk, then the name is changed, then the folder
    reaches the disk; so a name never stands for bytes that are lost."""
    target = writable_file(path, stage)
    short = len(os.fsencode(target.name)) <= 200  # with what is added a name has at most 255 bytes
    name = target.name if short else hashlib.sha256(os.fsencode(target.name)).hexdigest()
    partial = target.with_name(f".{name}.{os.getpid()}.part")
    try:
        before = target.stat() if target.exists() else None
        partial.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(partial, flags, 0o600 if before else 0o666), "wb") as stream:
            if before is not None:
                _hand_on(before, stream.fileno())
            stream.write(body.encode("utf-8") if isinstance(body, str) else body)
            if sync:
                stream.flush()
                os.fsync(stream.fileno())
        os.replace(partial, target)
        if sync:
            _sync_folder(target.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise storage_error(error, path, stage) from error
    return path


def write_new(path: Path, body: bytes, *, stage: str = "storage") -> Path:
    """Write a file that is not there yet; a partial file is removed. Raises StorageError, also for a name
    that was taken meanwhile."""
    made = False
    try:
        with path.open("xb") as stream:
            made = True
            stream.write(body)
    except OSError as error:
        if made:
            path.unlink(missing_ok=True)
        raise storage_error(error, path, stage, "name another file.") from error
    return path


def writable_file(path: Path, stage: str = "storage", action: str = "") -> Path:
    """The file that a write to ``path`` replaces or makes: behind links, where there are any. Raises
    StorageError when that is no regular file. Call it before work whose result goes there."""
    try:
        target = Path(os.path.realpath(path))
        mode = os.lstat(target).st_mode if os.path.lexists(target) else stat.S_IFREG
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise storage_error(error, path, stage, action) from error
    if not stat.S_ISREG(mode):
        behind = "" if target == path.absolute() else f" ({target})"
        what = f"{path}{behind} cannot be written: it is {_KINDS.get(stat.S_IFMT(mode), 'no regular file')}."
        action = action or "name a file, or a name that is not taken."
        raise StorageError(what, stage=stage, action=action)
    return target


def result_file(path: Path, suffix: str, stage: str, magic: bytes = b"") -> Path:
    """As `writable_file`, for a result with this suffix, whose bytes begin with ``magic``: a file of another
    kind, such as params.yaml, is not replaced by it. Raises StorageError."""
    target = writable_file(path, stage, "name another file with --out.")
    try:
        head = _head(target, len(magic)) if target.exists() else None
    except OSError as error:
        raise storage_error(error, path, stage) from error
    if head is not None and target.stat().st_size and (target.suffix.lower() != suffix or head != magic):
        what = f"{path} is there, and no {suffix} file of this kind: it is not replaced."
        raise StorageError(what, stage=stage, action="name another file with --out, or remove it.")
    return target


_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFLNK: "a link that leads in a circle",
}


def _head(path: Path, size: int) -> bytes:
    with open_regular(path, None) as stream:
        return stream.read(size)


def _hand_on(before: os.stat_result, file: int) -> None:
    """Give the open file the owner and the mode of the one that it replaces."""
    now = os.fstat(file)
    if (now.st_uid, now.st_gid) != (before.st_uid, before.st_gid):
        with contextlib.suppress(PermissionError):  # another's file in a folder that we may write to
            os.fchown(file, before.st_uid, before.st_gid)
    os.fchmod(file, stat.S_IMODE(before.st_mode) & 0o777)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):  # a file system that syncs no folders
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
    """Free bytes of the disk where ``path`` lies or would lie; of one without a size, such as /proc, the
    largest number: it is never full. Raises OSError."""
    folder = path.absolute().parent if len(os.fsencode(path.name)) > 255 else path.absolute()
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    usage = shutil.disk_usage(folder)
    return usage.free if usage.total else sys.maxsize


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


def is_free(out: Path) -> bool:
    """Whether nothing is at ``out``, or an empty folder. Raises OSError."""
    return not os.path.lexists(out) or (out.is_dir() and not any(out.iterdir()))


def write_folder(out: Path, files: Mapping[str, bytes | str], *, stage: str, action: str = "") -> Path:
    """Write the folder ``out``, which must be free, with its files (name -> content), whole or not at all:
    they reach the disk in a folder beside it, which then takes its name. Raises StorageError."""
    partial = out.absolute().with_name(f".{out.name}.{os.getpid()}.part")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for name, content in files.items():
            write_whole(partial / name, content, stage=stage, sync=True)
        os.replace(partial, out)  # an empty folder may be there
    except OSError as error:
        raise storage_error(error, out, stage, action) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return out


def write_json(path: Path, value: Any, *, sync: bool = False) -> Path:
    """Write JSON as `write_whole` does. Raises StorageError, ValueError for NaN."""
    return write_whole(path, json_text(value), sync=sync)


def json_text(value: Any) -> str:
    """As `write_json` writes it. Raises ValueError for NaN."""
    return json.dumps(value, indent=1, allow_nan=False) + "\n"


def read_json(path: Path) -> Any:
    """The content of a JSON file, or None where none can be read."""
    try:
        return parse_json(read_text(path, RECORD))
    except (OSError, ValueError):
        return None
