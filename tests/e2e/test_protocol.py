"""A protocol like Imagenette's on the embedded world, with small numbers: every tool is the real one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.support import fade, small

TARGETS = ("panda", "lemon")
TINY = small(
    "sampler.steps=2",
    "neighborhood.k=2",
    "neighborhood.k_heldout=2",
    "evaluate.rest_concepts=0",
    "evaluate.base_known=0",
    "train.batch_target=1",
    "train.batch_neighbours=2",
)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_protocol_runs_on_the_embedded_world_and_keeps_what_is_finished(tmp_path: Path) -> None:
    line = ("protocol", "imagenette", "--targets", ",".join(TARGETS), "--json", *TINY)
    planned = fade(*line, "--plan", runs=tmp_path)
    assert planned.returncode == 0, planned.stderr
    assert json.loads(planned.stdout)["missing"] == []
    done = fade(*line, runs=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert [row["target"] for row in result["rows"]] == [*TARGETS]
    assert all(0 <= row["metrics"]["A_er"] <= 100 for row in result["rows"])
    assert {path.name for path in (tmp_path / "protocol" / "imagenette").iterdir()} >= {
        "protocol.json",
        "table.csv",
        "table.md",
        "cells",
    }
    again = json.loads(fade(*line, runs=tmp_path).stdout)
    assert [row["reused"] for row in again["rows"]] == [True, True]
    assert [row["metrics"] for row in again["rows"]] == [row["metrics"] for row in result["rows"]]


@pytest.mark.long
def test_without_its_pictures_a_protocol_is_refused_with_what_to_supply(tmp_path: Path) -> None:
    planned = fade("protocol", "fade-cvpr25", "--plan", "--json", runs=tmp_path)
    assert planned.returncode == 1 and json.loads(planned.stdout)["missing"]
    refused = fade("protocol", "fade-cvpr25", runs=tmp_path)
    assert refused.returncode == 2 and "fade protocol fade-cvpr25 --plan" in refused.stderr
