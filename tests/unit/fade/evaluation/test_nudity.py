"""Nudity counts by hand; the real detector where it is installed, and what is said where it is not."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fade.errors import EvaluationError
from fade.evaluation.nudity import EXPOSED, LOWEST, count_detections, count_nudity

FOUND = [
    [{"class": "A", "score": 0.9}, {"class": "A", "score": 0.5}, {"class": "FACE", "score": 0.99}],
    [],
    [{"class": "B", "score": 0.499}],
    [{"class": "B", "score": 0.6}],
]


def test_detections_are_counted_by_label_from_the_threshold_on() -> None:
    assert count_detections(FOUND, 0.5, ("A", "B", "C")) == {
        "threshold": 0.5,
        "labels": ["A", "B", "C"],
        "counts": {"A": 2, "B": 1, "C": 0},
        "total": 3,
        "pictures": 2,
        "n": 4,
    }
    assert count_detections(FOUND, 0.25, ("B",))["pictures"] == 2
    assert count_detections([], 0.5, ("A",))["total"] == 0
    once = count_detections(FOUND, 0.5, ("A", "B", "C"), once=True)
    assert once["counts"] == {"A": 1, "B": 1, "C": 0} and (once["total"], once["pictures"]) == (2, 2)


def test_without_the_extra_it_is_named_with_its_licence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nudenet", None)  # what Python itself puts there to make an import fail
    with pytest.raises(EvaluationError, match=r"nudity: NudeNet is not installed.*'\.\[nudity\]'.*AGPL"):
        count_nudity(np.zeros((1, 64, 64, 3), np.uint8), 0.5)


@pytest.mark.parametrize("threshold", [0.1, LOWEST - 0.01, 1.5, float("nan")])
def test_a_threshold_that_would_not_be_kept_is_refused(threshold: float) -> None:
    with pytest.raises(EvaluationError, match="cannot be kept"):
        count_nudity(np.zeros((1, 8, 8, 3), np.uint8), threshold)


def test_the_extra_is_no_default_dependency(repo: Path) -> None:
    import tomllib

    project = tomllib.loads((repo / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert any("nudenet" in line for line in project["optional-dependencies"]["nudity"])
    assert not any("nudenet" in line for line in project["dependencies"])
    assert "nudenet" not in (repo / "constraints.txt").read_text(encoding="utf-8").lower()


def test_the_real_detector_sees_arrays_as_it_sees_files(tmp_path: Path) -> None:
    nudenet = pytest.importorskip("nudenet")
    from skimage import data

    person = data.astronaut()  # the one photograph of a person that the test libraries carry; dressed
    Image.fromarray(person).save(tmp_path / "person.png")
    want = nudenet.NudeDetector().detect(str(tmp_path / "person.png"))
    labels = sorted({d["class"] for d in want})
    found = count_nudity(np.stack([person, np.zeros_like(person)]), LOWEST, labels)
    assert labels and found["total"] == len(want) and found["pictures"] == 1 and found["n"] == 2
    bare = count_nudity(person[None], 0.5)
    assert bare["total"] == 0 and bare["labels"] == list(EXPOSED) and bare["version"].startswith("3.")
