"""Reads of files that come from outside: regular files alone, and never more than a limit.

A FIFO or a device would block or never end, a sparse file of gigabytes would fill the memory. What is refused
is an OSError with a sentence of its own, so that each room words its error as for any unreadable file."""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
BLOCK = 64 * KIB
SETTINGS = MIB
"""Bytes of params.yaml, of a .dvc file, of a setting's text."""
TEXT = 4 * MIB
"""Bytes of requests.yaml and of a vocabulary."""
RECORD = 64 * MIB
"""Bytes of a manifest, a lineage, a job, a model's configuration."""
LISTING = 256 * MIB
"""Bytes of the listing of a data set: about 100 a file."""
PICTURE = 32 * MIB
ADAPTER = 2 * GIB
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


class RefusedFileError(OSError):
    """A file that is not read: no regular file, a link where none may be, too large, or no text."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(errno.EINVAL, what, os.fspath(path))

    def __str__(self) -> str:
        return str(self.strerror)


def open_regular(path: Path, limit: int | None, *, links: bool = True) -> io.BufferedReader:
    """Open a regular file of at most ``limit`` bytes (None: any size) without waiting for it.

    links=False refuses a path that is a symbolic link itself; its folders may be. Raises OSError:
    FileNotFoundError, PermissionError, RefusedFileError."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | (0 if links else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except ValueError:
        raise RefusedFileError(path, "its name holds a NUL or no text") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise RefusedFileError(path, "it is a link") from None
        if error.errno == errno.ENXIO:  # a socket, or a device without a driver
            raise RefusedFileError(path, "it is no regular file") from None
        raise
    try:
        check_stat(path, os.fstat(descriptor), limit)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def check_regular(path: Path, limit: int | None = None) -> None:
    """As `open_regular`, for a file that a library opens by its name. Raises OSError (RefusedFileError)."""
    open_regular(path, limit).close()


def check_stat(path: Path, found: os.stat_result, limit: int | None) -> None:
    """Raises RefusedFileError for anything but a regular file of at most ``limit`` bytes."""
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(found.st_mode)), "no regular file")
        raise RefusedFileError(path, f"it is {kind}")
    if limit is not None and found.st_size > limit:
        raise RefusedFileError(path, f"it is larger than {in_words(limit)}")


def read_bytes(path: Path, limit: int, *, links: bool = True) -> bytes:
    """The content of a regular file. Raises OSError (RefusedFileError), as `open_regular`."""
    with open_regular(path, limit, links=links) as stream:
        size = os.fstat(stream.fileno()).st_size  # a read of ``limit`` would take that much memory
        content = stream.read(size + 1)
        while len(content) <= limit and (more := stream.read(BLOCK)):
            content += more
    if len(content) > limit:  # it grew meanwhile, or its size is not known before (/proc)
        raise RefusedFileError(path, f"it is larger than {in_words(limit)}")
    return content


def read_text(path: Path, limit: int) -> str:
    """As `read_bytes`, of UTF-8 text without NUL. Raises OSError (RefusedFileError)."""
    content = read_bytes(path, limit)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RefusedFileError(path, f"it is not UTF-8 (byte {error.start})") from None
    if "\0" in text:
        raise RefusedFileError(path, f"it is no text (NUL at character {text.index(chr(0))})")
    return text.replace("\r\n", "\n").replace("\r", "\n")  # as Path.read_text


def in_words(size: int) -> str:
    """``1048576`` -> ``1 MiB``."""
    unit, name = next(
        ((unit, name) for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")) if size >= unit),
        (1, "bytes"),
    )
    return f"{size / unit:g} {name}"
