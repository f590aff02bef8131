"""One name a class, in the order of the logits, or a sentence."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from fade.errors import BaseModelError, DataError
from fade.judges.label_tables import name_classes


def table(folder: Path, text: str, name: str = "names.csv") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


@pytest.mark.parametrize(
    ("text", "labels", "expected"),
    [
        ("pug\nchow\n", [], ["pug", "chow"]),
        ("\ufeffpug\r\nchow", ["x", "y"], ["pug", "chow"]),
        ("label,concept\n1,chow\n0,pug\n", ["x", "y"], ["pug", "chow"]),
        ("concept,label\nchow,y\npug,x\n", ["x", "y"], ["pug", "chow"]),
        ("label,concept\nn02,pug\nn01,chow\n", [], ["pug", "chow"]),
        (
            'label,concept\n"tench, Tinca tinca",tench\ny,chow\n',
            ["tench, Tinca tinca", "y"],
            ["tench", "chow"],
        ),
    ],
)
def test_names_come_in_the_order_of_the_classes(
    tmp_path: Path, text: str, labels: list[str], expected: list[str]
) -> None:
    assert name_classes(labels, 2, table(tmp_path, text)) == expected


@pytest.mark.parametrize(
    ("text", "labels", "says"),
    [
        ("pug\n", [], "it names 1 classes, the judge has 2"),
        ("label,concept\nx,pug\n", ["x", "y"], "it names 1 classes"),
        ("label,concept\nx,pug\nx,chow\n", ["x", "y"], "the label 'x' is there twice"),
        ("label,concept\nx,pug\nz,chow\n", ["x", "y"], "the judge's label 'y' is not in it"),
        ("label,concept\nx,pug\ny\n", ["x", "y"], "row 3 has fewer fields"),
        ("pug\n\n", [], "it names 1 classes"),
        ("pug\nch{ow\n", [], "name 2, 'ch{ow'"),
    ],
)
def test_a_table_of_other_classes_is_refused(tmp_path: Path, text: str, labels: list[str], says: str) -> None:
    with pytest.raises(DataError, match=says) as caught:
        name_classes(labels, 2, table(tmp_path, text))
    assert "names.csv" in str(caught.value) and caught.value.action


def test_names_that_cannot_be_told_apart_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match="'Cardigan' at 0 and 'cardigan' at 1"):
        name_classes([], 2, table(tmp_path, "Cardigan\ncardigan\n"))
    with pytest.raises(DataError, match="No such file"):
        name_classes([], 2, str(tmp_path / "nowhere"))


def test_imagenets_names_are_those_of_the_importers_table(monkeypatch: pytest.MonkeyPatch) -> None:
    stub = ModuleType("fade.data.importers.class_names")
    stub.imagenet_concepts = lambda labels: [f"thing {label}" for label in labels]  # type: ignore[attr-defined]
    stub.class_names = lambda _: [SimpleNamespace(label=f"n{i}") for i in range(1000)]  # type: ignore[attr-defined]
    for name in ("fade.data.importers", "fade.data.importers.class_names"):
        monkeypatch.setitem(sys.modules, name, stub if name.endswith("names") else ModuleType(name))
    assert name_classes([], 1000, "imagenet")[999] == "thing n999"
    assert name_classes(["tench", "pug"], 2, "imagenet") == ["thing tench", "thing pug"]
    own = [f"label {i}" for i in range(1000)]
    assert name_classes(own, 1000, "imagenet")[0] == "thing label 0"
