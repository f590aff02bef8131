"""A data set that is being written: its folder beside the final one, and the journal of finished pictures.

A line is written when a picture's file is complete. What a killed import left is read again: a picture whose
file does not have the recorded bytes is made again; another plan starts anew. Nothing is kept in memory of a
picture but the place of its line."""

from __future__ import annotations

import json
import os
import shutil
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from fade.data.importers.members import STAGE
from fade.utils.files import make_folder, storage_error
from fade.utils.hashing import sha256_of
from fade.utils.locks import lock_directory

JOURNAL = ".journal.jsonl"


class Kept(NamedTuple):
    """A picture that was read: where it lies, or why it was left out."""

    row: int
    """Its place in the plan's rows."""
    source_sha256: str
    path: str = ""
    """Below the data set's folder; "" for one that was left out."""
    sha256: str = ""
    width: int = 0
    height: int = 0
    band: str = ""
    change: str = ""
    left_out: str = ""
    """Why; "" for one that is kept."""

    def line(self) -> str:
        """As the journal has it."""
        return json.dumps(self) + "\n"


class Journal:
    """The finished pictures of an import."""

    def __init__(self, folder: Path, stream: IO[str], finished: set[int]) -> None:
        self.folder, self.finished = folder, finished
        """finished: the rows that an earlier import had made."""
        self._stream = stream

    def add(self, lines: str) -> None:
        """Record finished pictures, by their lines.

        Not forced to the disk: what a power cut takes, of the journal or of a picture, is made again."""
        self._stream.write(lines)
        self._stream.flush()


class Finished:
    """What became of each row of a whole journal: read where it is asked for."""

    def __init__(self, stream: IO[bytes], rows: int) -> None:
        self._stream, self._places = stream, array("q", [-1]) * rows
        for place, one in self._lines():
            self._places[one.row] = place

    def _lines(self) -> Iterator[tuple[int, Kept]]:
        self._stream.seek(0)
        place = len(self._stream.readline())  # the plan's key
        for line in iter(self._stream.readline, b""):
            yield place, Kept(*json.loads(line))
            place += len(line)

    def __iter__(self) -> Iterator[Kept]:
        """Every row, in the order in which they were made; not beside a look at a single one."""
        return (one for _, one in self._lines())

    def __getitem__(self, row: int) -> Kept:
        self._stream.seek(self._places[row])
        return Kept(*json.loads(self._stream.readline()))


@contextmanager
def finished_rows(folder: Path, rows: int) -> Iterator[Finished]:
    """What became of the ``rows`` rows of an import that read all of them."""
    with (folder / JOURNAL).open("rb") as stream:
        yield Finished(stream, rows)


@contextmanager
def partial_folder(out: Path, key: str) -> Iterator[Journal]:
    """The folder ``.<name>.partial`` beside ``out``, locked, with the journal of an earlier import of the
    same ``key``. Raises BusyError for a second import, StorageError."""
    folder = out.with_name(f".{out.name}.partial")
    make_folder(folder)
    with lock_directory(folder, f"{out} is being imported", STAGE):
        file, whole = folder / JOURNAL, folder / f"{JOURNAL}.part"
        try:
            finished = _copy_whole_lines(file, whole, key)
            if finished is None:
                shutil.rmtree(folder / "train", ignore_errors=True)
                shutil.rmtree(folder / "heldout", ignore_errors=True)
                whole.write_text(json.dumps({"key": key}) + "\n", encoding="utf-8")
                finished = set()
            os.replace(whole, file)
            with file.open("a", encoding="utf-8") as stream:
                yield Journal(folder, stream, finished)
        except OSError as error:
            action = "free some space, or name another folder with --out; the import resumes."
            raise storage_error(error, folder, STAGE, action) from error


def _copy_whole_lines(file: Path, target: Path, key: str) -> set[int] | None:
    """Copy the lines of the pictures that are finished and whole; returns their rows, or None for no journal,
    or one of another plan."""
    finished: set[int] = set()
    try:
        with file.open(encoding="utf-8") as stream, target.open("w", encoding="utf-8") as copy:
            head = next(stream, "{}")
            if json.loads(head).get("key") != key:
                return None
            copy.write(head)
            for line in stream:
                if (one := _parsed(line)) is None:  # killed while it was written
                    break
                if not one.path or _is_whole(file.parent / one.path, one):
                    finished.add(one.row)
                    copy.write(line)
        return finished
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        return None


def _parsed(line: str) -> Kept | None:
    """None for a line that is not whole."""
    try:
        return Kept(*json.loads(line)) if line.endswith("\n") else None
    except (ValueError, TypeError):
        return None


def _is_whole(path: Path, kept: Kept) -> bool:
    try:
        return sha256_of(path) == kept.sha256
    except OSError:
        return False
