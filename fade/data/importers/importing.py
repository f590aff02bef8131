"""Import a data set: plan, read as one stream, convert in worker processes, write whole or not at all."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from fade.data.importers.convert import convert
from fade.data.importers.members import STAGE, Container
from fade.data.importers.partial import JOURNAL, Journal, Kept, partial_folder
from fade.data.importers.plan import Plan, Row
from fade.data.importers.records import (
    Accepted,
    archive_records,
    import_key,
    read_record,
    write_records,
)
from fade.data.manifest import HELDOUT
from fade.errors import BusyError, DataError, JobError, UsageError
from fade.utils.files import disk_full, free_bytes
from fade.utils.parent import exit_with_parent
from fade.utils.progress import report

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
        todo = [row for row in plan.rows if (row.container, row.name) not in journal.finished]
        need = sum(row.size for row in todo)
        if free_bytes(out.parent) < need + SLACK:
            raise disk_full(out, STAGE)
        _read_all(plan, todo, journal, workers or os.cpu_count() or 1)
        kept = _without_leaks(plan, journal)
        record = write_records(journal.folder, plan, kept, archives, key, accepted)
        (journal.folder / JOURNAL).unlink()
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


def _read_all(plan: Plan, todo: Sequence[Row], journal: Journal, workers: int) -> None:
    """Read, convert and write the rows that are left."""
    done, total = len(plan.rows) - len(todo), len(plan.rows)
    work = partial(_convert_chunk, str(journal.folder), plan.options.side)
    for finished in _converted(work, _chunks(_contents(plan, todo)), workers if len(todo) > CHUNK else 1):
        journal.add(finished)
        done += len(finished)
        report("import", done, total, plan.owner.title)


Chunk = list[tuple[Row, bytes]]


def _converted(
    work: Callable[[Chunk], list[Kept]], chunks: Iterator[Chunk], workers: int
) -> Iterator[list[Kept]]:
    """``work`` of each chunk, in order, by as many processes; one works in this process."""
    if workers == 1:
        yield from map(work, chunks)
        return
    context = multiprocessing.get_context("spawn")
    waiting: deque[Future[list[Kept]]] = deque()
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


def _contents(plan: Plan, todo: Sequence[Row]) -> Iterator[tuple[Row, bytes]]:
    """Each row with its bytes, container by container in the container's own order."""
    by_container: dict[int, dict[str, Row]] = {}
    for row in todo:
        by_container.setdefault(row.container, {})[row.name] = row
    for number, rows in by_container.items():
        yield from _of_container(plan.containers[number], rows)


def _of_container(container: Container, rows: dict[str, Row]) -> Iterator[tuple[Row, bytes]]:
    for member in container.members(lambda name, _: name in rows):
        if member.content is not None and member.name in rows:
            yield rows.pop(member.name), member.content
    if rows:
        what = f"{container.path} changed while it was read: {next(iter(rows))!r} is gone."
        raise DataError(what, stage=STAGE, action="import it again.")


def _chunks(items: Iterator[tuple[Row, bytes]]) -> Iterator[Chunk]:
    chunk: Chunk = []
    size = 0
    for item in items:
        chunk.append(item)
        size += len(item[1])
        if len(chunk) == CHUNK or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _convert_chunk(folder: str, side: int | None, chunk: Chunk) -> list[Kept]:
    """In a worker: convert and write."""
    return [_convert(Path(folder), side, row, content) for row, content in chunk]


def _convert(folder: Path, side: int | None, row: Row, content: bytes) -> Kept:
    source = hashlib.sha256(content).hexdigest()
    try:
        made = convert(row.name, content, side)
    except ValueError as error:
        return Kept(row.name, row.container, source, left_out=str(error))
    path = f"{row.stem}{made.suffix}"
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(made.content)
    sha256 = source if made.content is content else hashlib.sha256(made.content).hexdigest()
    facts = (path, sha256, made.width, made.height, made.pixels, made.change)
    return Kept(row.name, row.container, source, *facts)


def _without_leaks(plan: Plan, journal: Journal) -> list[tuple[Row, Kept]]:
    """Every row with what became of it, in the plan's order; a training picture whose pixels a held-out one
    has, too, is left out and its file removed."""
    pairs = [(row, journal.finished[row.container, row.name]) for row in plan.rows]
    heldout = {one.pixels: one.path for row, one in pairs if row.split == HELDOUT and one.path}
    result: list[tuple[Row, Kept]] = []
    for row, one in pairs:
        if one.path and row.split != HELDOUT and one.pixels in heldout:
            (journal.folder / one.path).unlink(missing_ok=True)
            why = f"the held-out {heldout[one.pixels]} is the same picture"
            one = replace(one, path="", left_out=why)
        result.append((row, one))
    return result
