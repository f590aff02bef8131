"""The archived record holds the cells and pictures as they were measured, and answers for exactly what they
are of."""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any

import pytest

from fade.benchmark.archive import Archive, find_archived, read_archive, write_archive
from fade.benchmark.plan import Cell
from fade.benchmark.record import read_record, write_record
from fade.errors import CacheError
from tests.unit.fade.benchmark.cells import ESD, FADE, SOURCES, measured

PNG = b"\x89PNG picture"


def inputs(cell: Cell, **more: Any) -> dict[str, Any]:
    settings = {"train": {"lr": 0.001, "steps": 5}, "method": {"name": cell.condition.name}}
    facts = {
        "arm": cell.condition.label,
        "target": cell.target,
        "seed": cell.seed,
        "data_md5": "d",
        "sources": SOURCES,
    }
    return {**facts, "settings": settings, "code": "old", "probe": "old", **more}


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    out = Archive("1234")
    for condition in (FADE, ESD):
        for seed in (1, 0):
            found = read_record(
                write_record(tmp_path, inputs(Cell(condition, "panda", seed)), measured(90, 80, 70 + seed))
            )
            assert found is not None
            out.cells["cells"].append(found)
    out.pictures["cells", "red-panda", "a.png"] = PNG
    return out


def test_what_is_written_is_read_again_and_the_bytes_do_not_depend_on_the_order(
    tmp_path: Path, archive: Archive
) -> None:
    path = write_archive(tmp_path / "cells.jsonl.xz", archive)
    again = read_archive(path)
    assert (
        again.commit == "1234"
        and again.picture("red panda", "a.png") == PNG
        and again.picture("panda", "a.png") is None
    )
    assert sorted(map(json.dumps, again.cells["cells"])) == sorted(map(json.dumps, archive.cells["cells"]))
    before = path.read_bytes()
    archive.cells["cells"].reverse()
    assert write_archive(path, archive).read_bytes() == before


def test_a_cell_is_found_by_what_it_is_of_and_whatever_code_measured_it(archive: Archive) -> None:
    cells, wanted = archive.cells["cells"], inputs(Cell(ESD, "panda", 1), code="new", probe=None)
    found = find_archived(cells, wanted)
    assert found is not None and (found["inputs"]["arm"], found["inputs"]["seed"]) == (ESD.label, 1)
    unknown = {**wanted, "settings": {**wanted["settings"], "train": {"lr": 0.001, "later": 1}}}
    assert find_archived(cells, unknown) == found
    lr = {**wanted["settings"], "train": {"lr": 0.002, "steps": 5}}
    others = {
        "seed": 2,
        "target": "tulip",
        "arm": "uce/keys-values",
        "data_md5": "e",
        "settings": lr,
        "sources": {**SOURCES, "base": "x"},
    }
    for key, value in others.items():
        assert find_archived(cells, {**wanted, key: value}) is None, key
    assert find_archived(cells, {**wanted, "sources": {**SOURCES, "base": "x"}}, any_sources=True) == found


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def better(path: Path) -> None:
    path.write_bytes(lzma.compress(lzma.decompress(path.read_bytes()).replace(b'"A_er": 90', b'"A_er": 99')))


def empty(path: Path) -> None:
    path.write_bytes(lzma.compress(b""))


@pytest.mark.parametrize("harm", [cut, better, empty, Path.unlink], ids=["cut", "better", "empty", "missing"])
def test_a_damaged_table_is_refused_with_the_way_out(tmp_path: Path, archive: Archive, harm: Any) -> None:
    path = write_archive(tmp_path / "cells.jsonl.xz", archive)
    harm(path)
    with pytest.raises(CacheError, match="is no archive of cells") as caught:
        read_archive(path)
    assert "dvc pull bench/archive.dvc" in str(caught.value)
