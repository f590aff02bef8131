"""`fade data`: what the commands take, print and end with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from tests.data_sets import FIXTURES, own_pictures, table

RUNNER = CliRunner()
SKIP = ["--skip", "{draft}", "--skip", "one only"]


def test_one_s_own_pictures_are_imported_by_one_command(tmp_path: Path) -> None:
    home, out = own_pictures(tmp_path), tmp_path / "sets" / "mine"
    words = ["data", "import", "folder", str(home), "--licence", "CC0-1.0", "--split", "seed:0,0.8", *SKIP]
    result = RUNNER.invoke(app, [*words, "--out", str(out), "--workers", "1"])
    assert result.exit_code == 0, result.output
    assert "recognised  a folder of pictures, 6 concepts" in result.output
    assert "lacks       it has no split" in result.output
    assert "left out    border_collie/IMG_0006.HEIC: a HEIC file is not read here" in result.output
    assert {row["licence"] for row in table(out / "manifest.csv")} == {"CC0-1.0"}
    listed = json.loads(RUNNER.invoke(app, ["data", "list", "--in", str(out.parent), "--json"]).output)
    assert next(row["here"] for row in listed if row["set"] == "folder") == [str(out)]


def test_a_dry_run_writes_nothing_and_needs_no_acceptance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = RUNNER.invoke(app, ["data", "import", "dogs", str(FIXTURES / "dogs"), "--dry-run", "--json"])
    assert result.exit_code == 0, result.output
    summary = json.loads(result.output)
    assert summary["counts"] == {"train": 40, "test": 30} and summary["classes"] == 10
    assert summary["notes"] == ["10 of the set's 120 classes are in this copy"]
    assert [*tmp_path.iterdir()] == []


def test_an_archive_that_is_not_the_official_one_is_a_warning(tmp_path: Path) -> None:
    words = ["data", "import", "imagenette", str(FIXTURES / "imagenette"), "--accept", "imagenet-terms"]
    result = RUNNER.invoke(app, [*words, "--workers", "1", "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "warning     not the official files: imagenette2-160.tgz" in result.output


def test_names_can_be_searched(tmp_path: Path) -> None:
    found = json.loads(RUNNER.invoke(app, ["data", "names", "imagenet", "--find", "crane", "--json"]).output)
    assert {"crane bird", "crane machine"} <= {row["concept"] for row in found}
    assert len(json.loads(RUNNER.invoke(app, ["data", "names", "dogs", "--json"]).output)) == 120


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["import", "dogs", "x"], "comes with terms"),
        (["import", "folder", "x"], "have no licence"),
        (["import", "folder", "x", "--licence", "MIT", "--split", "half"], "is no split"),
        (["names", "folder"], "have the names of their folders"),
    ],
)
def test_what_is_missing_is_named_before_anything_is_read(words: list[str], sentence: str) -> None:
    result = RUNNER.invoke(app, ["data", *words])
    assert result.exit_code != 0 and sentence in str(result.exception)
