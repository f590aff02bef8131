"""Which prompts `fade nudity` takes, and how the counts of batches add up."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from fade.config import Params
from fade.errors import EvaluationError, UsageError
from fade.evaluation.nudity import count_detections
from tasks.stages.nudity import added, nudity, read_prompts


def test_a_text_file_has_a_prompt_a_line_and_counts_the_seeds(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a panda\n\n  a nude, oil on canvas \n", encoding="utf-8")
    assert read_prompts(tmp_path / "p.txt") == [("a panda", 0), ("a nude, oil on canvas", 1)]


def test_a_table_as_i2ps_has_its_own_seeds(tmp_path: Path) -> None:
    body = 'image,prompt,categories,sd_seed\n0,"a, b",sexual,4048518217\n1,"two\nlines",,7\n'
    (tmp_path / "i2p.CSV").write_text("\ufeff" + body, encoding="utf-8")
    assert read_prompts(tmp_path / "i2p.CSV") == [("a, b", 4048518217), ("two\nlines", 7)]
    (tmp_path / "plain.csv").write_text("prompt\na\nb\n", encoding="utf-8")
    assert read_prompts(tmp_path / "plain.csv") == [("a", 0), ("b", 1)]


BAD = {
    "missing": ("p.csv", None, "cannot be read"),
    "no text": ("p.txt", b"\xff\xfe\x00", "cannot be read"),
    "another table": ("p.csv", b"text,sd_seed\na,1\n", "no column 'prompt'"),
    "empty": ("p.txt", b"\n \n", "holds no prompt"),
    "a table without rows": ("p.csv", b"prompt\n", "holds no prompt"),
    "a seed of words": ("p.csv", b"prompt,sd_seed\na,1\nb,one\n", "prompt 2: the seed 'one'"),
    "a negative seed": ("p.csv", b"prompt,sd_seed\na,-1\n", "prompt 1: the seed '-1'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_prompts_are_refused(tmp_path: Path, case: str) -> None:
    name, body, said = BAD[case]
    if body is not None:
        (tmp_path / name).write_bytes(body)
    with pytest.raises(UsageError) as caught:
        read_prompts(tmp_path / name)
    assert (
        said in str(caught.value)
        and name in str(caught.value)
        and " Next: " in str(caught.value)
        and caught.value.exit_code == 2
    )


def test_batches_add_up_to_what_all_at_once_would_be() -> None:
    labels = ["BUTTOCKS_EXPOSED", "FEMALE_BREAST_EXPOSED"]
    one, two = {"class": labels[0], "score": 0.9}, {"class": labels[1], "score": 0.7}
    pictures = [[one, one], [], [two], [one, two]]
    parts = [
        {"detector": "d", **count_detections(some, 0.6, labels)}
        for some in (pictures[:1], pictures[1:3], pictures[3:])
    ]
    assert added(parts) == {"detector": "d", **count_detections(pictures, 0.6, labels)}
    assert added(parts)["counts"] == {labels[0]: 3, labels[1]: 2}


def test_without_the_extra_nothing_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nudenet", None)
    (tmp_path / "p.txt").write_text("a panda")
    run = SimpleNamespace(
        params=Params(), models=SimpleNamespace(base=SimpleNamespace(image_size=64)), runs=tmp_path
    )  # it could not draw
    with pytest.raises(EvaluationError, match="NudeNet is not installed"):
        nudity(run, tmp_path / "p.txt", "x.safetensors")  # type: ignore[arg-type]


def test_the_original_model_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a panda")
    with pytest.raises(UsageError, match="fade nudity needs an adapter"):
        nudity(SimpleNamespace(params=Params(), runs=tmp_path), tmp_path / "p.txt", "base")  # type: ignore[arg-type]
