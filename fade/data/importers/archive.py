"""What a data set comes in: a folder, tar, tar in tar, zip or parquet, read as one stream of members.

Nothing is unpacked to the disk and no more than one member is held. The files of a folder and the members of
a tar that is not packed are read where they lie, by any process. Archives come from outside and are not
trusted: a link, a device, an absolute path or one with ``..`` is refused by its name, a member is never read
beyond a limit, and an archive that ends early is an error, never a smaller data set."""

from __future__ import annotations

import gzip
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from fade.data.importers.members import (
    IGNORED_PARTS,
    STAGE,
    Container,
    Member,
    Selects,
    check_name,
    hostile,
    is_ignored,
    truncated,
)
from fade.data.importers.parquet import ParquetFile
from fade.errors import DataError
from fade.utils.reading import MIB, PICTURE, RefusedFileError, read_bytes

METADATA = 128 * MIB
"""Bytes of a list, a table or a .mat file of a data set: CUB's largest has 90 MB."""
MAX_RATIO = 200
"""Times that a zip's member may be larger than it is packed: pictures hardly shrink."""
ARCHIVES = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".zip")
BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, gzip.BadGzipFile, EOFError)


def is_archive(path: Path) -> bool:
    """Whether a file's name is that of an archive."""
    return path.name.lower().endswith((*ARCHIVES, ".parquet"))


def open_container(path: Path) -> Container:
    """The container of a folder or an archive file. Raises DataError for any other file."""
    name = path.name.lower()
    if path.is_dir():
        return Folder(path)
    if name.endswith(".parquet"):
        return ParquetFile(path)
    if name.endswith(".zip"):
        return Zip(path)
    if name.endswith(ARCHIVES):
        return Tar(path)
    action = f"name a folder, or a file that ends with {', '.join(ARCHIVES)} or .parquet."
    raise DataError(f"{path} is no archive of a data set.", stage=STAGE, action=action)


def read_in_place(path: Path, members: Iterable[tuple[str, int, int]]) -> Iterator[bytes]:
    """The contents of members that have an offset, without those before them.

    path: of a folder or an unpacked tar; members: (name, offset, bytes). Raises DataError."""
    if path.is_dir():
        for name, _, _ in members:
            yield _file_content(path, path / name, name)
        return
    try:
        with path.open("rb", buffering=0) as stream:
            for name, offset, size in members:
                stream.seek(offset)
                content = stream.read(size)
                if len(content) != size:
                    raise truncated(path, f"{name} ends early")
                yield content
    except OSError as error:
        raise truncated(path, error) from error


def _file_content(home: Path, path: Path, name: str) -> bytes:
    """Of a file of a folder. Raises DataError."""
    try:
        return read_bytes(path, _limit(name))
    except RefusedFileError as error:
        raise hostile(home, f"{name!a}: {error}") from None
    except OSError as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: OSError) -> DataError:
    """The error for a file or a folder that this user may not read."""
    what = f"{path} cannot be read: {error.strerror}."
    return DataError(what, stage=STAGE, action="correct its permissions.")


def _limit(name: str) -> int:
    return METADATA if name.lower().endswith((".txt", ".csv", ".json", ".mat", ".md")) else PICTURE


@dataclass(frozen=True)
class Folder:
    """Files below a folder, in the order of their paths. Archives in it are containers of their own."""

    path: Path

    def members(self, selects: Selects) -> Iterator[Member]:
        """As `Container.members`. Links to files inside of the folder are followed, others refused. Raises
        DataError."""
        home = self.path.resolve()
        for parent, folders, files in os.walk(self.path):
            folders[:] = sorted(name for name in folders if name not in IGNORED_PARTS)
            for path in (Path(parent) / name for name in sorted(files)):
                if is_archive(path):
                    continue
                name = check_name(self.path, path.relative_to(self.path).as_posix())
                if is_ignored(name):
                    continue
                if not path.resolve().is_relative_to(home):
                    raise hostile(self.path, f"{name!a} is a link out of it")
                yield self._member(path, name, selects)
            for path in (Path(parent) / name for name in folders):
                if path.is_symlink():
                    raise hostile(self.path, f"{path.name!a} is a link to a folder")

    def _member(self, path: Path, name: str, selects: Selects) -> Member:
        try:
            found = path.stat()
        except OSError as error:
            raise unreadable(path, error) from None
        if not stat.S_ISREG(found.st_mode):
            raise hostile(self.path, f"{name!a} is no regular file")
        content = _file_content(self.path, path, name) if selects(name, found.st_size) else None
        return Member(name, found.st_size, content, offset=0)


@dataclass(frozen=True)
class Tar:
    """A tar archive, packed or not; tars in it are opened in place."""

    path: Path

    def members(self, selects: Selects) -> Iterator[Member]:
        """As `Container.members`. A packed archive is read to its end, so that its checksum is verified.
        Raises DataError."""
        try:
            with self.path.open("rb") as raw, _unpacked(raw, self.path) as stream:
                yield from self._walk(stream, "", 0 if stream is raw else None, selects)
                while stream.read(MIB):  # gzip compares its checksum at the end alone
                    pass
        except (*BROKEN, OSError) as error:
            raise truncated(self.path, error) from error

    def _walk(self, stream: BinaryIO, prefix: str, begin: int | None, selects: Selects) -> Iterator[Member]:
        """begin: where the stream begins in the file; None where it is not a part of it as it stands."""
        watched = _Watched(stream)
        with tarfile.open(fileobj=cast(BinaryIO, watched), mode="r:") as tar:
            while (one := tar.next()) is not None:
                # tarfile keeps every header: hundreds of MB for a million pictures
                tar.members = []  # type: ignore[attr-defined]
                name = prefix + check_name(self.path, one.name)
                if one.isdir():
                    continue
                if not one.isreg():
                    raise hostile(self.path, f"{name!a} is a link or a device")
                if is_ignored(name):
                    continue
                place = None if begin is None or one.issparse() else begin + one.offset_data
                if name.endswith(".tar") and not prefix:
                    opened = cast(BinaryIO, tar.extractfile(one))
                    yield from self._walk(opened, f"{name}/", place, selects)
                    continue
                content = self._content(tar, one, name) if selects(name, one.size) else None
                yield Member(name, one.size, content, place)
            # tarfile takes an archive that was cut between two members, or has a damaged header, for a whole
            # one
            if watched.last != tarfile.NUL * tarfile.BLOCKSIZE:
                raise truncated(self.path, "the mark of its end is missing")

    def _content(self, tar: tarfile.TarFile, one: tarfile.TarInfo, name: str) -> bytes:
        if one.size > _limit(name):
            raise hostile(self.path, f"{name!a} has {one.size:,} bytes")
        content = cast(BinaryIO, tar.extractfile(one)).read()
        if len(content) != one.size:
            raise truncated(self.path, f"{name} ends early")
        return content


class _Watched:
    """A stream that remembers its last block: tarfile reads no header after the end's."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self.last = stream, b""
        self.seek, self.tell, self.seekable = stream.seek, stream.tell, stream.seekable

    def read(self, size: int = -1) -> bytes:
        self.last = self._stream.read(size)
        return self.last


def _unpacked(raw: BinaryIO, path: Path) -> Any:
    """The tar stream of a file, by its first bytes."""
    head = raw.read(6)
    raw.seek(0)
    if head[:2] == b"\x1f\x8b":
        return gzip.GzipFile(fileobj=raw, mode="rb")
    if head[:3] == b"BZh":
        import bz2

        return bz2.BZ2File(raw, "rb")
    if head == b"\xfd7zXZ\0":
        return lzma.LZMAFile(raw, "rb")
    if not head:
        raise truncated(path, "it is empty")
    return raw


@dataclass(frozen=True)
class Zip:
    """A zip archive, as Kaggle hands them out."""

    path: Path

    def members(self, selects: Selects) -> Iterator[Member]:
        """As `Container.members`. Raises DataError."""
        try:
            with zipfile.ZipFile(self.path) as opened:
                for one in opened.infolist():
                    name = check_name(self.path, one.filename)
                    if one.is_dir() or is_ignored(name):
                        continue
                    kind = stat.S_IFMT(one.external_attr >> 16)
                    if kind and not stat.S_ISREG(kind):
                        raise hostile(self.path, f"{name!a} is a link or a device")
                    if one.flag_bits & 1:
                        raise hostile(self.path, f"{name!a} is encrypted")
                    content = self._content(opened, one, name) if selects(name, one.file_size) else None
                    yield Member(name, one.file_size, content)
        except (*BROKEN, OSError, NotImplementedError) as error:
            raise truncated(self.path, error) from error

    def _content(self, opened: zipfile.ZipFile, one: zipfile.ZipInfo, name: str) -> bytes:
        if one.file_size > _limit(name):
            raise hostile(self.path, f"{name!a} has {one.file_size:,} bytes")
        if one.file_size > MIB and one.file_size > MAX_RATIO * max(one.compress_size, 1):
            raise hostile(self.path, f"{name!a} is {one.file_size // max(one.compress_size, 1):,}x packed")
        with opened.open(one) as stream:  # reads no more than file_size, and compares the CRC at the end
            content = stream.read(one.file_size + 1)
        if len(content) != one.file_size:
            raise truncated(self.path, f"{name} ends early")
        return content
