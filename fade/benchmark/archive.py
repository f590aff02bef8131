"""The archived record: finished cells of the benchmark and their pictures in one compressed table. Ours.

``cells.jsonl.xz``: the first line is the header, each further line a cell (``set``, ``record``) or a picture
(``set``, ``target``, ``file``, ``base64``). A cell is found by what it is of (method, target, seed, data,
settings), not by the key that it was measured under: its code is the one of its commit."""

from __future__ import annotations

import base64
import json
import lzma
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fade.benchmark.record import whole
from fade.data.vocabulary import slug
from fade.errors import CacheError
from fade.utils.files import write_whole
from fade.utils.parsing import parse_json
from fade.utils.reading import GIB, LISTING, read_bytes

FOLDER, TABLE, POINTER = "archive", "cells.jsonl.xz", "archive.dvc"
"""Below the home of the benchmark: the folder that DVC tracks, its one file, and the .dvc file."""


@dataclass
class Archive:
    """``commit``: the last one whose code could read the cells by their keys. ``cells``: set -> records, in
    the order of the table. ``pictures``: (set, target, file name) -> PNG bytes."""

    commit: str
    cells: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    pictures: dict[tuple[str, str, str], bytes] = field(default_factory=dict)

    def picture(self, target: str, file: str) -> bytes | None:
        """A picture beside the cells of a target; None when there is none."""
        return self.pictures.get(("cells", slug(target), file))


def read_archive(path: Path) -> Archive:
    """Raises CacheError when the table is missing or damaged, or a cell in it is not as it was measured."""
    try:
        unpacker = lzma.LZMADecompressor()
        table = unpacker.decompress(read_bytes(path, LISTING), max_length=GIB)
        if not unpacker.eof:
            raise ValueError("it is cut off, or unpacks to more than 1 GiB")
        header, *rows = map(parse_json, table.splitlines())
        out = Archive(header["commit"])
        for row in rows:
            if "record" not in row:
                body = base64.b64decode(row["base64"], validate=True)
                out.pictures[row["set"], row["target"], row["file"]] = body
            elif whole(row["record"]):
                out.cells[row["set"]].append(row["record"])
            else:
                raise ValueError(f"the cell {row['record'].get('key')} was changed")
    except (OSError, lzma.LZMAError, ValueError, KeyError, TypeError, AttributeError) as error:
        action = "delete it and pull it again: `dvc pull bench/archive.dvc`."
        raise CacheError(f"{path} is no archive of cells: {error}.", stage="bench", action=action) from error
    return out


def write_archive(path: Path, archive: Archive) -> Path:
    """Write the table; the same content gives the same bytes. Raises StorageError."""
    commits = {str(record["made"]["commit"]) for records in archive.cells.values() for record in records}
    counts = {name: len(records) for name, records in archive.cells.items()}
    head = {"archive": 1, "commit": archive.commit, "commits": sorted(commits), "cells": counts}
    rows: list[dict[str, Any]] = [head]
    for name in sorted(archive.cells):
        rows += [{"set": name, "record": record} for record in sorted(archive.cells[name], key=_place)]
    for (name, target, file), body in sorted(archive.pictures.items()):
        rows.append({"set": name, "target": target, "file": file, "base64": base64.b64encode(body).decode()})
    text = "".join(json.dumps(row, sort_keys=True, allow_nan=False) + "\n" for row in rows)
    return write_whole(path, lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME), stage="bench")


def find_archived(
    records: Iterable[Mapping[str, Any]], inputs: Mapping[str, Any], *, any_sources: bool = False
) -> dict[str, Any] | None:
    """The archived cell of the same method, target, seed, data, models and settings, or None; its code, and a
    setting that one of the two lacks, is not compared.

    any_sources: whatever its models, for a report where they are not at hand."""
    same = ("arm", "target", "seed", "data_md5", *(() if any_sources else ("sources",)))
    for record in records:
        then = record["inputs"]
        if all(then[key] == inputs[key] for key in same) and _agree(then["settings"], inputs["settings"]):
            return dict(record)
    return None


def _agree(then: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether no setting that both have differs."""
    pairs = ((value, now[key]) for key, value in then.items() if key in now)
    return all(
        _agree(a, b) if isinstance(a, Mapping) and isinstance(b, Mapping) else a == b for a, b in pairs
    )


def _place(record: Mapping[str, Any]) -> tuple[str, str, int, str]:
    inputs = record["inputs"]
    return inputs["target"], inputs["arm"], inputs["seed"], record["key"]
