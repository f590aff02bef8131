"""A protocol that was stopped goes on, its table is of what was measured, and one failure stops nothing."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from fade.errors import DivergedError
from fade.evaluation.protocols import narrowed
from fade.evaluation.published_protocols import get_protocol
from fade.run.protocol_plan import Inputs, with_overrides
from flows.protocol import ProtocolOptions, Target, measure_all, targets_of
from tests.datasets import make_dataset
from tests.support import make_bare_base, make_bare_model

Work = Callable[[ProtocolOptions, Target], Mapping[str, Any]]


@pytest.fixture
def options(tmp_path: Path) -> Callable[..., ProtocolOptions]:
    """A protocol like Imagenette's on a small data set; further overrides by the caller."""
    make_dataset(tmp_path / "images")
    make_bare_base(tmp_path / "base")
    for name in ("clip", "judge"):
        make_bare_model(tmp_path / name)
    (tmp_path / "judge" / "config.json").write_text(
        json.dumps({"id2label": {"0": "panda", "1": "koala", "2": "tulip", "3": "rose"}})
    )
    data = {one: one for one in ("images", "base", "clip", "judge")}
    (tmp_path / "params.yaml").write_text(json.dumps({"data": data}))

    def make(*overrides: str, name: str = "imagenette") -> ProtocolOptions:
        protocol = with_overrides(narrowed(get_protocol(name), targets=["panda", "tulip"]), overrides)
        return ProtocolOptions(protocol, Inputs(tmp_path / "params.yaml", tmp_path / "runs", overrides))

    return make


def erased(log: list[str], runs: Path, fails: str = "", error: BaseException | None = None) -> Work:
    """Stands for `fade run`: writes an adapter and counts."""

    def work(options: ProtocolOptions, target: Target) -> Mapping[str, Any]:
        if target.name == fails:
            raise error or DivergedError("it diverged.", stage="train")
        log.append(target.name)
        adapter = runs / "erase" / target.name / "adapter.safetensors"
        adapter.parent.mkdir(parents=True, exist_ok=True)
        adapter.write_bytes(b"x")
        metrics = {"A_er": 100.0, "A_adj": 80.0, "A_heldout": 70.0, "A_rest": None, "ERB": 88.88888888888889}
        numbers = {"metrics": metrics, "n": {"adjacent": 50, "heldout": 50, "rest": 0}}
        summary = {
            **numbers,
            "neighbours": ["koala"],
            "heldout": ["rose"],
            "adapter": str(adapter),
            "adapter_sha256": "a" * 64,
            "report": "report.html",
            "data_md5": "0" * 32,
            "base_sha256": "b" * 64,
            "model_name": f"fade-{target.name}",
            "model_version": "1",
        }
        return {"summary": summary, "numbers": numbers}

    return work


def test_every_target_is_erased_with_the_protocols_settings(options: Callable[..., ProtocolOptions]) -> None:
    panda, tulip = targets_of(options("train.steps=3"))
    assert (panda.name, tulip.name) == ("panda", "tulip")
    params = panda.run.params
    assert (params.method.name, params.method.variant) == ("fade", "official")
    assert (params.sampler.steps, params.sampler.guidance_scale, params.neighborhood.k) == (50, 8.0, 5)
    assert params.train.steps == 3 and params.sampler.prompt == "A photo of a {concept}"
    assert "sampler.steps=50" in panda.overrides and panda.overrides[-1] == "train.steps=3"


def test_the_table_is_of_all_targets_and_their_mean(
    options: Callable[..., ProtocolOptions], tmp_path: Path
) -> None:
    log: list[str] = []
    result = measure_all(options(), erased(log, tmp_path / "runs"))
    assert log == ["panda", "tulip"] and result["failures"] == []
    folder = tmp_path / "runs" / "protocol" / "imagenette"
    assert json.loads((folder / "protocol.json").read_text()) == result
    rows = list(csv.DictReader((folder / "table.csv").read_text().splitlines()))
    assert [row["target"] for row in rows] == ["panda", "tulip"]
    assert float(rows[0]["ERB"]) == 88.88888888888889 and rows[0]["A_others"] == "75.0"
    page = (folder / "table.md").read_text()
    assert "| configured | panda | 100.0 | 75.0 |" in page and "mean of 2" in page
    assert "| sampler.steps | " not in page and "| steps | 50 solver steps | release |" in page
    assert (
        "86 to 89" in page
        and "| configured: the data that params.yaml names | panda, tulip | ours |  |" in page
    )


def test_what_is_measured_is_not_measured_again(
    options: Callable[..., ProtocolOptions], tmp_path: Path
) -> None:
    log: list[str] = []
    runs = tmp_path / "runs"
    with pytest.raises(KeyboardInterrupt):
        measure_all(options(), erased(log, runs, "tulip", KeyboardInterrupt()))
    assert log == ["panda"]
    result = measure_all(options(), erased(log, runs))
    assert log == ["panda", "tulip"] and [row["reused"] for row in result["rows"]] == [True, False]
    measure_all(options(), erased(log, runs))
    assert log == ["panda", "tulip"]


@pytest.mark.parametrize("what", ["a setting", "the judge", "the adapter", "a number"])
def test_control_what_decides_a_target_measures_it_anew(
    options: Callable[..., ProtocolOptions], tmp_path: Path, what: str
) -> None:
    log: list[str] = []
    runs = tmp_path / "runs"
    measure_all(options(), erased(log, runs))
    if what == "the judge":
        config = tmp_path / "judge" / "config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), "another": 1}))
    elif what == "the adapter":
        for name in ("panda", "tulip"):
            (runs / "erase" / name / "adapter.safetensors").unlink()
    elif what == "a number":
        for cell in (runs / "protocol" / "imagenette" / "cells").iterdir():
            cell.write_text(cell.read_text().replace("88.88", "99.99"))
    measure_all(options(*(["sampler.steps=4"] if what == "a setting" else [])), erased(log, runs))
    assert log == ["panda", "tulip"] * 2


def test_one_target_that_fails_does_not_stop_the_others(
    options: Callable[..., ProtocolOptions], tmp_path: Path
) -> None:
    log: list[str] = []
    result = measure_all(options(), erased(log, tmp_path / "runs", "panda"))
    assert log == ["tulip"] and [row["target"] for row in result["rows"]] == ["tulip"]
    assert result["failures"] == [{"part": "configured", "target": "panda", "why": "train: it diverged."}]
    page = (tmp_path / "runs" / "protocol" / "imagenette" / "table.md").read_text()
    assert "## Failed" in page and "configured, panda: train: it diverged." in page
