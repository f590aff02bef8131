"""Import a data set: plan, read and convert in worker processes, write whole or not at all.

A picture is read, decoded, hashed and written once, all of it in one worker; this process holds the names,
and the journal of what is finished."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from fade.data.importers.archive import read_in_place
from fade.data.importers.convert import convert
from fade.data.importers.members import STAGE, Container, hostile
from fade.data.importers.partial import JOURNAL, Finished, Journal, Kept, finished_rows, partial_folder
from fade.data.importers.plan import Plan, file_state
from fade.data.importers.records import (
    Accepted,
    archive_records,
    import_key,
    read_record,
    write_records,
)
from fade.data.manifest import HELDOUT
from fade.data.pictures import decode_rgb, pixels_sha256
from fade.errors import BusyError, DataError, JobError, UsageError
from fade.utils.files import disk_full, free_bytes
from fade.utils.parent import exit_with_parent
from fade.utils.progress import report
from fade.utils.reading import PICTURE

CHUNK = 64
"""Pictures that a worker converts at once; a chunk also ends at CHUNK_BYTES."""
CHUNK_BYTES = 8 << 20
AHEAD = 2
"""Chunks that wait for each worker: what is in memory stays small."""
SLACK = 64 << 20
"""Free bytes that must be left on the disk."""


def import_pictures(
    plan: Plan, path: Path, out: Path, accepted: Accepted | None, workers: int | None = None
) -> dict[str, Any]:
    """Write the planned data set to ``out``; returns its import record. One that is there already, of the
    same copy and options, is left as it is.

    path: the copy that ``plan`` is of. accepted: of the set's terms, where it has any.
    workers: processes; None: one a core. Killed, it resumes. Raises DataError, UsageError, JobError,
    StorageError, BusyError."""
    _check_out(path, out)
    archives = archive_records(plan)
    key = import_key(plan, archives)
    if out.exists():
        record = read_record(out)
        if record.get("key") == key:
            return record
        what = f"{out} is there, and it is no import of this copy with these options."
        raise DataError(what, stage=STAGE, action="name another folder with --out, or remove this one.")
    out.parent.mkdir(parents=True, exist_ok=True)
    with partial_folder(out, key) as journal:
        todo = [number for number in range(len(plan.rows)) if number not in journal.finished]
        need = sum(plan.rows[number].size for number in todo)
        if free_bytes(out.parent) < need + SLACK:
            raise disk_full(out, STAGE)
        _read_all(plan, todo, journal, workers or os.cpu_count() or 1)
        for container, state in zip(plan.containers, plan.states, strict=True):
            if file_state(container) != state:
                what = f"{container.path} changed while it was read."
                raise DataError(what, stage=STAGE, action="import it again.")
        with finished_rows(journal.folder, len(plan.rows)) as finished:
            leaks = _remove_leaks(plan, finished, journal.folder)
            record = write_records(journal.folder, plan, finished, leaks, archives, key, accepted)
        (journal.folder / JOURNAL).unlink()
        os.sync()  # all pictures at once: the name never stands for what a power cut took
        try:
            os.replace(journal.folder, out)
        except OSError:
            what = f"{out} appeared meanwhile."
            raise BusyError(what, stage=STAGE, action="remove it, and import again.") from None
    return record


def _check_out(path: Path, out: Path) -> None:
    """The result does not lie in the copy, and a file is not in its place."""
    if path.is_dir() and out.resolve().is_relative_to(path.resolve()):
        what, action = f"{out} lies in the copy that is read.", "name another folder with --out."
        raise UsageError(what, stage=STAGE, action=action)
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file.", stage=STAGE, action="name another folder with --out.")


class Item(NamedTuple):
    """A picture that a worker converts."""

    row: int
    name: str
    stem: str
    offset: int
    size: int
    content: bytes | None
    """None: the worker reads it where it lies."""


@dataclass(frozen=True)
class Chunk:
    """Pictures of one container that a worker converts at once."""

    path: Path
    """The container's."""
    items: Sequence[Item]


def _read_all(plan: Plan, todo: Sequence[int], journal: Journal, workers: int) -> None:
    """Read, convert and write the rows that are left."""
    done, total = len(plan.rows) - len(todo), len(plan.rows)
    work = partial(_convert_chunk, str(journal.folder), plan.options.side)
    for count, lines in _converted(work, _chunks(plan, todo), workers if len(todo) > CHUNK else 1):
        journal.add(lines)
        done += count
        report("import", done, total, plan.owner.title)


def _converted(
    work: Callable[[Chunk], tuple[int, str]], chunks: Iterator[Chunk], workers: int
) -> Iterator[tuple[int, str]]:
    """``work`` of each chunk, in order, by as many processes; one works in this process."""
    if workers == 1:
        yield from map(work, chunks)
        return
    context = multiprocessing.get_context("spawn")
    waiting: deque[Future[tuple[int, str]]] = deque()
    with ProcessPoolExecutor(workers, context, initializer=exit_with_parent) as pool:
        try:
            for chunk in chunks:
                waiting.append(pool.submit(work, chunk))
                if len(waiting) > AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            what = "a process that converts pictures was killed."
            raise JobError(what, stage=STAGE, action="start it again: it resumes.") from None
        finally:
            pool.shutdown(cancel_futures=True)


def _chunks(plan: Plan, todo: Sequence[int]) -> Iterator[Chunk]:
    """The rows that are left, container by container. A worker reads what can be read in place, and gets the
    contents of what only this process can read, from the container's beginning on."""
    by_container: dict[int, list[int]] = {}
    for number in todo:
        by_container.setdefault(plan.rows[number].container, []).append(number)
    for container, numbers in by_container.items():
        opened = plan.containers[container]
        yield from _cut(opened.path, _in_place(plan, numbers))
        streamed = {plan.rows[number].name: number for number in numbers if plan.rows[number].offset is None}
        if streamed:
            yield from _cut(opened.path, _streamed(plan, opened, streamed))


def _in_place(plan: Plan, numbers: Sequence[int]) -> Iterator[Item]:
    """The rows that a worker reads itself, in the order of the file."""
    offsets = ((plan.rows[number].offset, number) for number in numbers)
    for offset, number in sorted((offset, number) for offset, number in offsets if offset is not None):
        row = plan.rows[number]
        yield Item(number, row.name, row.stem, offset, row.size, None)


def _streamed(plan: Plan, container: Container, numbers: dict[str, int]) -> Iterator[Item]:
    """The rows of these names with their contents, in the container's own order."""
    for member in container.members(lambda name, _: name in numbers):
        if member.content is not None and member.name in numbers:
            number = numbers.pop(member.name)
            row = plan.rows[number]
            yield Item(number, row.name, row.stem, 0, len(member.content), member.content)
    if numbers:
        what = f"{container.path} changed while it was read: {next(iter(numbers))!r} is gone."
        raise DataError(what, stage=STAGE, action="import it again.")


def _cut(path: Path, items: Iterator[Item]) -> Iterator[Chunk]:
    chunk: list[Item] = []
    size = 0
    for item in items:
        if item.size > PICTURE:
            raise hostile(path, f"{item.name!a} has {item.size:,} bytes")
        chunk.append(item)
        size += item.size
        if len(chunk) == CHUNK or size >= CHUNK_BYTES:
            yield Chunk(path, chunk)
            chunk, size = [], 0
    if chunk:
        yield Chunk(path, chunk)


def _convert_chunk(folder: str, side: int | None, chunk: Chunk) -> tuple[int, str]:
    """In a worker: read, convert and write; returns how many, and their lines of the journal."""
    in_place = [(one.name, one.offset, one.size) for one in chunk.items if one.content is None]
    contents = read_in_place(chunk.path, in_place)
    lines = [
        _convert(folder, side, item, next(contents) if item.content is None else item.content).line()
        for item in chunk.items
    ]
    return len(lines), "".join(lines)


def _convert(folder: str, side: int | None, item: Item, content: bytes) -> Kept:
    source = hashlib.sha256(content).hexdigest()
    try:
        made = convert(item.name, content, side)
    except ValueError as error:
        return Kept(item.row, source, left_out=str(error))
    path = f"{item.stem}{made.suffix}"
    _write(f"{folder}/{path}", made.content)
    sha256 = source if made.content is content else hashlib.sha256(made.content).hexdigest()
    return Kept(item.row, source, path, sha256, made.width, made.height, made.band, made.change)


def _write(path: str, content: bytes) -> None:
    try:
        stream = open(path, "wb")  # noqa: PTH123, SIM115  a Path a picture takes a tenth of its decoding
    except FileNotFoundError:  # the first one of a class
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        stream = open(path, "wb")  # noqa: PTH123, SIM115
    with stream:
        stream.write(content)


def _remove_leaks(plan: Plan, finished: Finished, folder: Path) -> dict[int, str]:
    """Training pictures whose pixels a held-out one has, too: their files are removed. Row -> why."""
    heldout: dict[str, list[str]] = {}
    for one in finished:
        if one.path and plan.rows[one.row].split == HELDOUT:
            heldout.setdefault(one.band, []).append(one.path)
    pixels = cache(lambda path: pixels_sha256(*decode_rgb((folder / path).read_bytes())))
    leaks: dict[int, str] = {}
    for one in finished:
        if one.path and plan.rows[one.row].split != HELDOUT and one.band in heldout:
            same = [path for path in heldout[one.band] if pixels(path) == pixels(one.path)]
            if same:
                leaks[one.row] = f"the held-out {max(same)} is the same picture"
    for row in leaks:
        (folder / finished[row].path).unlink()
    return leaks
