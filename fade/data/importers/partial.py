"""A data set that is being written: its folder beside the final one, and the journal of finished pictures.

A line is written when a picture's file is complete. What a killed import left is read again: a picture whose
file does not have the recorded bytes is made again; another plan starts anew."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from fade.data.importers.members import STAGE
from fade.utils.files import make_folder, storage_error
from fade.utils.hashing import sha256_of
from fade.utils.locks import lock_directory

JOURNAL = ".journal.jsonl"
SYNC_EVERY = 1000
"""Pictures between two writes of the journal to the disk."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A picture that was read: where it lies, or why it was left out."""

    name: str
    """In its container."""
    container: int
    source_sha256: str
    path: str = ""
    """Below the data set's folder; "" for one that was left out."""
    sha256: str = ""
    width: int = 0
    height: int = 0
    pixels: str = ""
    change: str = ""
    left_out: str = ""
    """Why; "" for one that is kept."""


class Journal:
    """The finished pictures of an import."""

    def __init__(self, folder: Path, stream: IO[str], finished: dict[tuple[int, str], Kept]) -> None:
        self.folder, self.finished = folder, finished
        self._stream, self._unsynced = stream, 0

    def add(self, kept: Sequence[Kept]) -> None:
        """Record finished pictures."""
        for one in kept:
            self.finished[one.container, one.name] = one
            self._stream.write(json.dumps(asdict(one), ensure_ascii=True) + "\n")
        self._unsynced += len(kept)
        self._stream.flush()
        if self._unsynced >= SYNC_EVERY:
            os.fsync(self._stream.fileno())
            self._unsynced = 0


@contextmanager
def partial_folder(out: Path, key: str) -> Iterator[Journal]:
    """The folder ``.<name>.partial`` beside ``out``, locked, with the journal of an earlier import of the
    same
    ``key``. Raises BusyError for a second import, StorageError."""
    folder = out.with_name(f".{out.name}.partial")
    make_folder(folder)
    with lock_directory(folder, f"{out} is being imported", STAGE):
        file = folder / JOURNAL
        finished = _read_journal(file, key)
        if finished is None:
            shutil.rmtree(folder / "train", ignore_errors=True)
            shutil.rmtree(folder / "heldout", ignore_errors=True)
            finished = {}
        try:
            with file.open("w", encoding="utf-8") as stream:  # without the lines that were not whole
                stream.write(json.dumps({"key": key}) + "\n")
                journal = Journal(folder, stream, {})
                journal.add(list(finished.values()))
                yield journal
        except OSError as error:
            action = "free some space, or name another folder with --out; the import resumes."
            raise storage_error(error, folder, STAGE, action) from error


def _read_journal(file: Path, key: str) -> dict[tuple[int, str], Kept] | None:
    """The pictures that are finished and whole; None for no journal, or one of another plan."""
    try:
        with file.open(encoding="utf-8") as stream:
            if json.loads(next(stream, "{}")).get("key") != key:
                return None
            found: dict[tuple[int, str], Kept] = {}
            for line in stream:
                if not line.endswith("\n"):  # killed while it was written
                    break
                one = Kept(**json.loads(line))
                if not one.path or _is_whole(file.parent / one.path, one):
                    found[one.container, one.name] = one
            return found
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def _is_whole(path: Path, kept: Kept) -> bool:
    try:
        return sha256_of(path) == kept.sha256
    except OSError:
        return False
