"""The registration that waits in a run's folder: whatever stands in the file is a version or an error that
names the field."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from fade.errors import RegistryError
from flows.cli import app
from tasks.registry.pending import DONE, PENDING
from tasks.registry.register import register, register_pending
from tests.registered import finished_run

pytestmark = pytest.mark.usefixtures("alone")


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose registration is pending."""
    run = finished_run(tmp_path)
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        with pytest.raises(RegistryError, match="does not answer"):
            register(*run, runs=tmp_path / "runs", root=tmp_path)
    return run[3]


def change(run_dir: Path, key: str, value: Any) -> None:
    pending = json.loads((run_dir / PENDING).read_text())
    *path, last = key.split(".")
    node = pending
    for part in path:
        node = node[part]
    if value is None:
        del node[last]
    else:
        node[last] = value
    (run_dir / PENDING).write_text(json.dumps(pending))


DEEP: Any = "x"
for _ in range(8):
    DEEP = {"x": DEEP}


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("result", 7, "result: 7: "),
        ("result", None, "result: it is missing"),
        ("result.target", 7, "result.target: 7: "),
        ("result.target", "", "result.target: ''"),
        ("result.seed", "3", "result.seed: '3'"),
        ("result.neighbours", "koala", "result.neighbours: 'koala'"),
        ("result.neighbours", [7], "result.neighbours.0: 7"),
        ("result.metrics", {"A_er": "97"}, "result.metrics.A_er: '97'"),
        ("result.metrics", {"A_er": {"x": 1}}, "result.metrics.A_er: "),
        ("result.intervals", [1, 2], r"result.intervals: \[1, 2\]"),
        ("result.intervals", {"A_er": 3}, "result.intervals.A_er: 3"),
        ("result.parts", {"panda": {"x": 1}}, "result.parts.panda.metrics: it is missing"),
        ("lineage", [], "lineage: "),
        ("lineage.code", "abc", "lineage.code: 'abc'"),
        ("lineage.code.commit", 7, "lineage.code.commit: 7"),
        ("lineage.data", None, "lineage.data: it is missing"),
        ("lineage.base.sha256", 1, "lineage.base.sha256: 1"),
        ("lineage.outputs.adapter_sha256", ["x"], "lineage.outputs.adapter_sha256: "),
        ("lineage.environment.libraries", {"torch": 2}, "lineage.environment.libraries.torch: 2"),
        ("lineage.parts", 3, "lineage.parts"),
        ("lineage.neighbourhood", None, "lineage.neighbourhood: it is missing"),
        ("result.target", "lemon", "result.target is 'lemon', the record has 'panda'"),
        ("result.target", "pan\x1b[31mda", "result.target is 'pan"),
        ("lineage.neighbourhood.target", "lemon", "result.target is 'panda', the record has 'lemon'"),
        ("result.neighbours", ["lemon"], r"result.neighbours is \['lemon'\]"),
        ("name", "fade-lemon", "name is 'fade-lemon', the record's model is fade-panda"),
        ("name", "fade.release", "name is 'fade.release', the record's model is fade-panda"),
        ("runs", 7, "runs: 7"),
        ("runs", DEEP, "runs: "),
        ("root", {"x": "y"}, "root: "),
        ("name", 7, "name: 7"),
        ("marks", {"request": 7}, "marks.request: 7"),
        ("marks", "text", "marks: 'text'"),
        ("params", [1], r"params: \[1\]"),
        ("params.train.steps", "many", "train.steps = 'many'"),
        ("params.train.speed", 1, "unknown key train.speed"),
        ("params.data", DEEP, "unknown key data.x"),
    ],
)
def test_a_field_of_another_type_is_named(run_dir: Path, key: str, value: Any, says: str) -> None:
    change(run_dir, key, value)
    with pytest.raises(RegistryError, match=says) as caught:
        register_pending(run_dir)
    assert PENDING in str(caught.value) and "run it again" in str(caught.value)
    assert not (run_dir.parents[2] / "mlflow.db").exists(), "nothing is made for it"


@pytest.mark.parametrize(
    "text", ["", "7", "[]", "null", '"x"', "{}", "{", "[" * 100_000, '{"result": ' * 5_000, "\ud800", "\0"]
)
def test_what_is_no_registration_at_all_is_refused(run_dir: Path, text: str) -> None:
    (run_dir / PENDING).write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(RegistryError, match=PENDING):
        register_pending(run_dir)


@pytest.mark.parametrize("record", ['{"name": 7}', "[]", '{"name": "x", "version": 1}', "{"])
def test_a_finished_registration_of_other_fields_is_refused(tmp_path: Path, record: str) -> None:
    (tmp_path / DONE).write_text(record)
    with pytest.raises(RegistryError, match=DONE):
        register_pending(tmp_path)


def test_a_pipe_is_no_registration(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / PENDING)
    with pytest.raises(RegistryError, match=f"{PENDING} cannot be read"):
        register_pending(tmp_path)


def test_a_folder_that_is_no_runs_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    before = set(Path("/").iterdir())
    for folder in (Path("/"), tmp_path, tmp_path / "none"):
        with pytest.raises(RegistryError, match=f"has no {PENDING}"):
            app(["register", str(folder)], standalone_mode=False)
    assert set(Path("/").iterdir()) == before and list(tmp_path.iterdir()) == []


def test_a_name_that_is_none_is_refused_in_the_record_as_well(run_dir: Path) -> None:
    for key in ("result.target", "lineage.neighbourhood.target"):
        change(run_dir, key, "pan\x1b[31mda")
    with pytest.raises(RegistryError, match="result.target: a name holds no"):
        register_pending(run_dir)


def test_a_whole_one_is_registered_and_further_fields_do_no_harm(run_dir: Path, blank: Path) -> None:
    change(run_dir, "result.new", {"later": 1})
    (run_dir.parents[2] / "mlflow.db").write_bytes((blank / "mlflow.db").read_bytes())
    assert register_pending(run_dir).version == "1"
    assert register_pending(run_dir).version == "1"
