"""The benches' target lists: tuned and reported are disjoint, and half of what is reported is hard."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fade.benchmark.archive import TABLE, read_archive
from fade.data.dvcfile import listing_md5, parse_listing, read_dvc_file
from fade.errors import DivergedError
from fade.models.loading import load_model
from fade.run.resolve_params import load_params, resolve
from fade.utils.parsing import parse_yaml
from tests.support import bench_module


def script(repo: Path, name: str) -> Any:
    """A script of bench/ as a module."""
    spec = importlib.util.spec_from_file_location(f"bench_{name}", repo / "bench" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def lists() -> tuple[set[str], set[str], set[str]]:
    """TUNING, REPORTED, and the targets of the ESD check."""
    targets, esd = bench_module("targets"), bench_module("esd")
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
    bench = script(repo, "memory")
    page = (repo / "docs" / "installation.md").read_text(encoding="utf-8")
    table = page.partition("| base | weights (text encoders), GB |")[2].partition("\n\n")[0]
    rows = [line.split("|")[1].strip().split(", ") for line in table.splitlines()[2:]]
    assert tuple(f"{name}-{dtype}" for name, dtype in rows) == bench.TABLE
    assert {name for name, _ in rows} <= set(bench.MODELS)
    assert table.splitlines()[0].split("|")[-5:-1] == [f" {size} GB " for size in bench.GPUS]


@pytest.fixture
def spaces(repo: Path) -> Any:
    return script(repo, "spaces")


def test_a_cell_of_the_spaces_changes_one_weight_and_what_the_loss_compares(spaces: Any, repo: Path) -> None:
    path = repo / "params.yaml"
    seen = set()
    for cell in spaces.cells("b", ("kissing cat",), spaces.SPACES):
        method = resolve(path, [f"method.{part}" for part in named(cell["method"])])
        made = resolve(path, spaces.overrides_of(cell, ["train.lr=0.5"], path))
        knob = spaces.WEIGHTS[cell["method"]]
        assert getattr(made.method, knob) == cell["factor"] * getattr(method.method, knob) > 0
        assert (made.train.loss_in, made.train.lr) == (cell["loss_in"], 0.5)
        assert made.evaluate.rest_concepts == 0, "the overrides of a trial hold"
        seen.add((cell["method"], knob, getattr(made.method, knob), made.train.loss_in))
    assert len(seen) == 4 * 3 * 2


def named(method: str) -> tuple[str, str]:
    name, _, variant = method.partition("/")
    return f"name={name}", f"variant={variant}"


def context(base: Any, params: Any) -> Any:
    """What stands for a run's context: its key follows parameters and target."""
    return SimpleNamespace(
        models=SimpleNamespace(base=base),
        params=params,
        with_params=lambda other, target: SimpleNamespace(
            key=f"{other.sha256()}, {target}", params=other, target=target
        ),
    )


@pytest.mark.parametrize(("name", "n"), [("sd1", 24), ("sd2", 48), ("sd3", 48)])
def test_the_spaces_are_measured_once_and_on_a_base_that_predicts_noise_in_one(
    spaces: Any,
    repo: Path,
    name: str,
    n: int,
    tmp_path: Path,
    family_dir: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, out, measured = repo / "params.yaml", tmp_path / "results" / "spaces.json", []

    def measure(run: Any) -> dict[str, Any]:
        if len(measured) == 5 and not out.with_suffix(".stopped").exists():
            out.with_suffix(".stopped").touch()
            raise KeyboardInterrupt
        measured.append(run)
        return {"metrics": dict.fromkeys(spaces.METRICS, 50.0)}

    monkeypatch.setattr(spaces, "measure", measure)
    run = context(load_model(str(family_dir(name)), device="cpu"), load_params(path))
    with pytest.raises(KeyboardInterrupt):
        spaces.measure_all(run, [], out, path)
    assert len(json.loads(out.read_text())["rows"]) == 5
    rows = spaces.measure_all(run, [], out, path)
    assert len(rows) == len(measured) == n and json.loads(out.read_text())["rows"] == rows
    assert {row["loss_in"] for row in rows} == set(spaces.SPACES[: n // 24])
    spaces.measure_all(run, ["method.drift_weight=3"], out, path)  # a setting of every cell
    assert len(measured) == 2 * n and len(json.loads(out.read_text())["rows"]) == n


def test_a_training_that_diverges_is_a_finished_cell(spaces: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from fade.training import loop
    from tasks.stages import mine, train

    def diverges(*_: Any, **__: Any) -> None:
        raise DivergedError("training diverged.", stage="train", action="lower train.lr.")

    monkeypatch.setattr(mine, "mine", lambda run: None)
    monkeypatch.setattr(train, "write_job", lambda *_: None)
    monkeypatch.setattr(loop, "train", diverges)
    run = SimpleNamespace(models=SimpleNamespace(base=None))
    assert spaces.measure(run) == {"failed": "training diverged."}


def test_a_record_of_other_data_than_the_defaults_is_named_as_such(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = bench_module("tables")
    today, other = {"data_md5": read_dvc_file(repo / "data.dvc").md5}, {"data_md5": f"{'0' * 32}.dir"}
    assert tables.measured_on(today) == tables.measured_on({"rows": [today, today]}) == []
    for result in (other, {"rows": [today, other]}):
        assert tables.measured_on(result)[0].startswith(f"Measured on `{other['data_md5']}`, which is not")
    monkeypatch.setattr(tables, "read_dvc_file", lambda _: SimpleNamespace(md5=other["data_md5"]))
    worlds = load_params(repo / "params.yaml").worlds
    (first,) = [name for name, world in worlds.items() if tables.FIRST_DATA in world.dvc_files.values()]
    assert tables.measured_on({})[0].startswith(f"Measured on `{first}`,") and not tables.measured_on(other)


def test_the_table_of_the_spaces_shows_both_where_both_were_measured() -> None:
    tables = bench_module("tables")
    place = {"method": "esd/x", "factor": 2.0, "target": "blue heart"}

    def row(base: str, space: str, value: float | None) -> dict[str, Any]:
        result = {"metrics": dict.fromkeys(tables.SPACES_METRICS, value)} if value else {"failed": "it"}
        return {**place, "base": base, "loss_in": space, **result}

    rows = [row("v", "own", 80.0), row("v", "noise", 60.5), row("eps", "own", 70.0), row("w", "own", None)]
    text = "\n".join(tables.spaces({"rows": rows}))
    assert "| `esd/x` | x 2 | 80.0 / 60.5 | 80.0 / 60.5 | 80.0 / 60.5 | 80.0 / 60.5 | 0 / 0 |" in text
    assert "| `esd/x` | x 2 | 70.0 | 70.0 | 70.0 | 70.0 | 0 |" in text
    assert "| `esd/x` | x 2 | - | - | - | - | 1 |" in text
