"""The benches' target lists: tuned and reported are disjoint, and half of what is reported is hard."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from pathlib import Path

import pytest

from fade.benchmark.archive import TABLE, read_archive
from fade.data.dvcfile import listing_md5, parse_listing, read_dvc_file
from fade.run.resolve_params import load_params
from fade.utils.parsing import parse_yaml


@pytest.fixture(scope="module")
def lists(repo: Path) -> tuple[set[str], set[str], set[str]]:
    """TUNING, REPORTED, and the targets of the ESD check."""
    sys.path.insert(0, str(repo / "bench"))
    try:
        import esd
        import targets
    finally:
        sys.path.remove(str(repo / "bench"))
    return set(targets.TUNING), set(targets.REPORTED), set(esd.TARGETS)


@pytest.fixture(scope="module")
def tight(repo: Path) -> dict[str, bool]:
    """Concept -> whether its family is tight."""
    recipe = parse_yaml((repo / "fade" / "pretrain" / "vocabulary.yaml").read_text(encoding="utf-8"))
    return {
        concept: family["kind"] == "tight"
        for family in recipe["families"].values()
        for concept in family["concepts"]
    }


def test_no_reported_target_is_tuned_on(lists: tuple[set[str], set[str], set[str]]) -> None:
    tuned, reported, _ = lists
    assert not tuned & reported


def test_reported_targets_are_known_and_half_of_them_hard(
    lists: tuple[set[str], set[str], set[str]], tight: dict[str, bool]
) -> None:
    tuned, reported, esd = lists
    assert tuned | reported | esd <= set(tight)
    assert {"panda", "tulip", "lemon"} <= reported and len(reported) >= 12
    assert sum(tight[name] for name in reported) >= 6 and len(esd) == 6 and all(tight[name] for name in esd)


def test_the_benchmark_tunes_and_reports_on_others(
    lists: tuple[set[str], set[str], set[str]], repo: Path
) -> None:
    tuned, reported, _ = lists
    bench = load_params(repo / "params.yaml").bench
    assert set(bench.tuning) <= tuned and not set(bench.targets) & tuned
    assert set(bench.targets) - reported == {"red heart"}  # the hearts' second: no list had two of them
    recipe = parse_yaml((repo / "fade" / "pretrain" / "vocabulary.yaml").read_text(encoding="utf-8"))[
        "families"
    ]
    counts = {
        name: sum(target in family["concepts"] for target in bench.targets) for name, family in recipe.items()
    }
    assert {name: n for name, n in counts.items() if recipe[name]["kind"] == "tight" and n} == {
        "cat faces": 2,
        "hearts": 2,
        "cars": 2,
    }
    assert sum(counts.values()) == 9 and len(bench.seeds) == 3


def test_the_embedded_remote_holds_the_archived_record_behind_the_tables(repo: Path, tmp_path: Path) -> None:
    tracked = read_dvc_file(repo / "bench" / "archive.dvc")

    def stored(md5: str) -> bytes:
        return (repo / "remote" / "files" / "md5" / md5[:2] / md5[2:]).read_bytes()

    files = parse_listing(stored(tracked.md5), tracked, "the embedded remote")
    body = stored(files[TABLE])
    assert list(files) == [TABLE] and listing_md5({TABLE: hashlib.md5(body).hexdigest()}) == tracked.md5
    (tmp_path / TABLE).write_bytes(body)
    archive = read_archive(tmp_path / TABLE)
    assert archive.commit == "1a3e30c5b21bb515e4ea6ec36fc7e49c3443d160"
    assert {name: len(cells) for name, cells in archive.cells.items()} == {
        "again": 12,
        "cells": 246,
        "trials": 107,
    }
    kept = json.loads((repo / "bench" / "record" / "benchmark.json").read_text(encoding="utf-8"))
    assert set(kept["cells"]["keys"]) <= {record["key"] for record in archive.cells["cells"]}
    assert len(archive.pictures) == 166


def test_each_row_of_the_table_of_gpus_is_a_model_that_the_bench_knows(repo: Path) -> None:
    spec = importlib.util.spec_from_file_location("bench_memory", repo / "bench" / "memory.py")
    assert spec is not None and spec.loader is not None
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    page = (repo / "docs" / "installation.md").read_text(encoding="utf-8")
    table = page.partition("| base | weights (text encoders), GB |")[2].partition("\n\n")[0]
    rows = [line.split("|")[1].strip().split(", ") for line in table.splitlines()[2:]]
    assert tuple(f"{name}-{dtype}" for name, dtype in rows) == bench.TABLE
    assert {name for name, _ in rows} <= set(bench.MODELS)
    assert table.splitlines()[0].split("|")[-5:-1] == [f" {size} GB " for size in bench.GPUS]
