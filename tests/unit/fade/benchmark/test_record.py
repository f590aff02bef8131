"""A kept cell is used for exactly what it was measured on: its code, data and settings; and only when it is
whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fade.provenance.fingerprints
from fade.benchmark.plan import Cell, Condition, settings_of
from fade.benchmark.record import find_anywhere, find_record, inputs_of, path_of, read_record, write_record
from fade.data.vocabulary import slug
from fade.provenance.fingerprints import code_sha256, method_components
from tests.unit.fade.benchmark.cells import ESD, FADE, SOURCES, measured

CELL = Cell(ESD, "panda", 0)
Inputs = Callable[..., dict[str, Any]]


@pytest.fixture
def inputs(repo: Path) -> Inputs:
    def make(
        cell: Cell = CELL, *overrides: str, md5: str = "d", probe: str | None = "p", **sources: str
    ) -> dict[str, Any]:
        params = settings_of(cell, overrides, repo / "params.yaml", ())
        return inputs_of(cell, params, {**SOURCES, **sources}, md5, probe)

    return make


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the package's source that a test may change."""
    home = tmp_path / "fade"
    shutil.copytree(fade.provenance.fingerprints.HOME, home, ignore=shutil.ignore_patterns("__pycache__"))

    monkeypatch.setattr(fade.provenance.fingerprints, "HOME", home)
    forget()
    yield home
    monkeypatch.undo()
    forget()


def changed(file: Path) -> None:
    more = "\nanother: 1\n" if file.suffix == ".yaml" else "\nanother = 1\n"
    file.write_text(file.read_text(encoding="utf-8") + more, encoding="utf-8")
    forget()


def forget() -> None:
    for function in (code_sha256, method_components):
        function.cache_clear()


OTHERS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "arm": ((Cell(Condition("esd", "u"), "panda", 0),), {}),
    "control": ((Cell(Condition("esd", "x", True), "panda", 0),), {}),
    "target": ((Cell(ESD, "tulip", 0),), {}),
    "seed": ((Cell(ESD, "panda", 1),), {}),
    "a setting of the method": ((CELL, "method.eta=2"), {}),
    "a setting of the training": ((CELL, "train.lr=1e-4"), {}),
    "the mesh": ((CELL, "mesh.rank=2"), {}),
    "the sampler": ((CELL, "sampler.steps=3"), {}),
    "the neighbourhood": ((CELL, "neighborhood.k=4"), {}),
    "the judging": ((CELL, "evaluate.images_per_concept=2"), {}),
    "data": ((), {"md5": "e"}),
    "the further measurements": ((), {"probe": "q"}),
    "none of them": ((), {"probe": None}),
    **{name: ((), {name: "x" * 64}) for name in SOURCES},
}


@pytest.mark.parametrize("case", OTHERS)
def test_what_was_measured_on_other_data_or_settings_is_not_found(
    tmp_path: Path, inputs: Inputs, case: str
) -> None:
    write_record(tmp_path, inputs(), measured(90, 80, 70))
    assert find_record(tmp_path, inputs()) is not None
    args, keys = OTHERS[case]
    other = inputs(*args, **keys)
    assert find_record(tmp_path, other) is None and path_of(tmp_path, other) != path_of(tmp_path, inputs())


@pytest.mark.parametrize(
    "override",
    [
        "train.checkpoint_every=7",
        "evaluate.grid_images=2",
        "register.experiment=x",
        "bench.resamples=9",
        "nudity.threshold=0.3",
    ],
)
def test_what_has_no_effect_on_a_cell_is_not_in_its_key(inputs: Inputs, override: str) -> None:
    assert inputs(CELL, override) == inputs()


@pytest.mark.parametrize(
    "file",
    [
        "erasers/esd.py",
        "generation/generator.py",
        "mining/neighborhood.py",
        "erasers/base.py",
        "training/loop.py",
        "adapters/lora.py",
        "judges/classifier.py",
        "evaluation/indirect.yaml",
        "models/sampling.py",
    ],
)
def test_changed_code_is_another_cell(inputs: Inputs, code: Path, file: str) -> None:
    before = inputs()
    (code / file).write_text("# a comment\n" + (code / file).read_text(encoding="utf-8"), encoding="utf-8")
    forget()
    assert inputs() == before
    changed(code / file)
    assert inputs()["code"] != before["code"]


def test_a_new_file_below_the_evaluation_is_another_cell(inputs: Inputs, code: Path) -> None:
    before = inputs()
    (code / "evaluation" / "attacks" / "more").mkdir()
    (code / "evaluation" / "attacks" / "more" / "prompt.py").write_text("x = 1\n")
    forget()
    assert inputs()["code"] != before["code"]


def test_another_methods_code_and_a_new_method_leave_the_cell_alone(inputs: Inputs, code: Path) -> None:
    before = inputs(), inputs(Cell(FADE, "panda", 0))
    changed(code / "erasers" / "fade.py")
    (code / "erasers" / "novel.py").write_text("x = 1\n")
    changed(code / "reporting" / "html.py")
    assert inputs() == before[0]
    assert inputs(Cell(FADE, "panda", 0)) != before[1]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def better(path: Path) -> None:
    path.write_text(path.read_text().replace('"A_er": 90', '"A_er": 99'))


def another_schema(path: Path) -> None:
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 2'))


def no_object(path: Path) -> None:
    path.write_text("[]")


def of_another_key(path: Path) -> None:
    """Whole, but renamed: what was measured with seed 1 in the place of seed 0."""
    content = json.loads(path.read_text())
    cell = {**content["inputs"], "seed": 1}
    other = write_record(
        path.parent, cell, {k: v for k, v in content.items() if k in ("numbers", "cost", "made", "grid")}
    )
    other.replace(path)


@pytest.mark.parametrize("harm", [cut, better, another_schema, no_object, of_another_key, Path.unlink])
def test_a_damaged_or_foreign_file_is_as_good_as_none(
    tmp_path: Path, inputs: Inputs, harm: Callable[[Path], None]
) -> None:
    path = write_record(tmp_path, inputs(), measured(90, 80, 70))
    assert read_record(path) == find_record(tmp_path, inputs()) and '"A_er": 90' in path.read_text()
    harm(path)
    assert find_record(tmp_path, inputs()) is None


def test_a_cell_lies_where_its_target_and_arm_say_and_is_small(tmp_path: Path, inputs: Inputs) -> None:
    path = write_record(tmp_path, inputs(), measured(90, 80, 70))
    assert (
        path.parent.name == slug("panda")
        and path.name.startswith("esd-x-0-")
        and path.stat().st_size < 20_000
    )


def test_without_the_models_cells_of_any_are_found_but_not_of_other_settings(
    tmp_path: Path, inputs: Inputs
) -> None:
    write_record(tmp_path, inputs(base="1" * 64), measured(90, 80, 70))
    write_record(tmp_path, inputs(CELL, "train.lr=1e-4"), measured(90, 80, 70))
    assert [r["inputs"]["sources"]["base"] for r in find_anywhere(tmp_path, inputs())] == ["1" * 64]
