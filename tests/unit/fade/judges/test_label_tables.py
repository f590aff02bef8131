"""One name a class, in the order of the logits, or a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from fade.errors import BaseModelError, DataError
from fade.judges.label_tables import name_classes
from fade.models.judge_checks import equal_labels


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


def test_imagenets_names_are_those_of_the_importers_table() -> None:
    """ImageNet's order is that of the sorted WordNet ids: tench is 0, toilet tissue 999."""
    names = name_classes([], 1000, "imagenet")
    assert names[0] == "tench" and "toilet" in names[999] and len(set(names)) == 1000
    cranes = [i for i, name in enumerate(names) if name.startswith("crane")]
    assert cranes == [134, 517]
    assert name_classes(["tench, Tinca tinca", "goldfish"], 2, "imagenet") == ["tench", "goldfish"]
    assert equal_labels(names) is None
