"""A release as the flow builds it: of the champions' files and the project's settings, or of a record."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fade.config import Params
from fade.errors import AuditError
from fade.generation.cache import Cache
from fade.governance.release_plan import Part
from fade.utils.hashing import sha256_of
from tasks.release.build_release import (
    ReleaseParts,
    build_champions,
    predict_champions,
    recorded_settings,
    release_settings,
)
from tests.unit.fade.adapters.text_model import BASE, VOCABULARY, champion, text_model

NAMES = ("lemon", "panda", "tulip")


def selected(paths: dict[str, Path]) -> ReleaseParts:
    parts = [
        Part(f"fade-{name}", "1", (name,), sha256_of(path), "c" * 64, BASE, "d" * 32)
        for name, path in paths.items()
    ]
    return ReleaseParts(parts, {part.label: paths[part.concepts[0]] for part in parts}, [])


def run_of(tmp_path: Path, mode: str) -> Any:
    return SimpleNamespace(
        params=Params.model_validate({"release": {"mode": mode, "words": 4}}),
        vocabulary=SimpleNamespace(names=VOCABULARY),
        models=SimpleNamespace(base=text_model()),
        cache=Cache(tmp_path / "cache"),
    )


@pytest.fixture
def champions(tmp_path: Path) -> dict[str, Path]:
    return {name: champion(tmp_path, name, neighbours=("koala", "bear")) for name in NAMES}


def made(run: Any, parts: ReleaseParts, folder: Path) -> str:
    folder.mkdir()
    return build_champions(run, parts, release_settings(run, parts), folder).sha256


@pytest.mark.parametrize("mode", ["sum", "solve"])
def test_one_champion_is_a_release_with_its_own_bytes(
    champions: dict[str, Path], tmp_path: Path, mode: str
) -> None:
    run, parts = run_of(tmp_path, mode), selected({"panda": champions["panda"]})
    assert made(run, parts, tmp_path / "out") == sha256_of(champions["panda"])
    assert predict_champions(run, parts, release_settings(run, parts)) == {}


@pytest.mark.parametrize("mode", ["sum", "solve"])
def test_a_release_without_a_concept_is_the_one_that_never_had_it(
    champions: dict[str, Path], tmp_path: Path, mode: str
) -> None:
    """The split of the vocabulary is made anew, and the lemon may be kept in it again."""
    run = run_of(tmp_path, mode)
    made(run, selected(champions), tmp_path / "all")
    without = {name: champions[name] for name in ("panda", "tulip")}
    after = made(run, selected(without), tmp_path / "after")
    assert after == made(run_of(tmp_path / "elsewhere", mode), selected(without), tmp_path / "never")
    assert (tmp_path / "after" / "adapter.safetensors").read_bytes() == (
        tmp_path / "never" / "adapter.safetensors"
    ).read_bytes()


def test_what_the_champions_were_trained_on_is_used_and_nothing_erased_is_kept(
    champions: dict[str, Path], tmp_path: Path
) -> None:
    run = run_of(tmp_path, "solve")
    kept = release_settings(run, selected(champions)).kept
    assert {"koala", "bear"} <= {*kept.used} and not {*NAMES} & {*kept.used, *kept.measured}
    assert {*kept.used, *kept.measured, *NAMES} == {*VOCABULARY} and kept.measured


def test_a_record_says_enough_to_build_the_same_bytes(champions: dict[str, Path], tmp_path: Path) -> None:
    run, parts = run_of(tmp_path, "solve"), selected(champions)
    settings = release_settings(run, parts)
    record = json.loads(json.dumps({"release": {"settings": settings.to_json()}}))
    assert recorded_settings(record) == settings
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    today = run_of(tmp_path / "elsewhere", "sum")  # what params.yaml says today does not count
    first = build_champions(run, parts, settings, tmp_path / "a").sha256
    assert build_champions(today, parts, recorded_settings(record), tmp_path / "b").sha256 == first


def test_a_record_of_before_is_of_a_sum_and_a_damaged_one_is_named() -> None:
    assert recorded_settings({}).config.mode == "sum"
    for damaged in ({}, {"settings": {"config": {"mode": "glue"}}}, {"settings": 3}):
        with pytest.raises(AuditError, match="does not say how the release was built"):
            recorded_settings({"release": damaged})
