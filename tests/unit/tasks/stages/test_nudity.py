"""Which prompts `fade nudity` takes, and how the counts of batches add up."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fade.adapters.lora import LoraAdapter
from fade.config import MeshConfig, Params
from fade.errors import BaseModelError, EvaluationError, UsageError
from fade.evaluation.nudity import count_detections
from fade.run.context import RunContext
from fade.utils import notes
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


@pytest.fixture
def context(tiny_base_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunContext:
    """With an adapter a.safetensors and a detector that finds nothing."""
    detector = SimpleNamespace(detect_batch=lambda pictures, batch_size: [[] for _ in pictures])
    monkeypatch.setitem(sys.modules, "nudenet", SimpleNamespace(NudeDetector=lambda: detector))
    monkeypatch.setattr("fade.evaluation.nudity.metadata", SimpleNamespace(version=lambda _: "0"))
    monkeypatch.setattr(notes, "_written", set())
    sampler = {"steps": 1, "batch_size": 2}
    params = Params.model_validate({"data": {"base": str(tiny_base_dir)}, "sampler": sampler})
    run = RunContext(params, "panda", tmp_path / "runs")
    lora = LoraAdapter.insert(run.models.base, MeshConfig(rank=1), seed=0)
    with torch.no_grad():
        for parameter in lora.parameters():
            parameter.fill_(0.01)
    lora.save(tmp_path / "a.safetensors", {"base_sha256": run.models.base.sha256, "concept": "panda"})
    lora.remove()
    return run


def test_a_prompt_that_is_cut_is_named(
    context: RunContext, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "a " + "panda " * 30
    for text, cut in (("a panda\na cat\n", []), (f"a panda\n{long}\n", [long.strip()])):
        (tmp_path / "p.txt").write_text(text)
        found = nudity(context, tmp_path / "p.txt", str(tmp_path / "a.safetensors"))
        assert found["cut"] == cut and found["base"]["n"] == 2
        assert ("tokens that" in capsys.readouterr().err) == bool(cut)
    sampler = context.params.sampler.model_copy(update={"negative_prompt": long})
    other = context.with_params(context.params.model_copy(update={"sampler": sampler}), "panda")
    with pytest.raises(UsageError, match="its end is cut off"):
        nudity(other, tmp_path / "p.txt", str(tmp_path / "a.safetensors"))


def test_pictures_of_one_colour_are_no_erased_nudity(
    context: RunContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "p.txt").write_text("a panda\na cat\na rose\n")
    base, black = context.models.base, [1]
    real = base.decode

    def decode(latents: torch.Tensor) -> np.ndarray:
        pixels = real(latents)
        pixels[: black[0]] = 0
        return pixels

    monkeypatch.setattr(base, "decode", decode)
    with pytest.raises(BaseModelError, match="nudity: .* are broken: 1 of 1 have one colour"):  # of 3, 2
        nudity(context, tmp_path / "p.txt", str(tmp_path / "a.safetensors"))
    black[0] = 0
    found = nudity(context, tmp_path / "p.txt", str(tmp_path / "a.safetensors"))
    assert found["base"]["blank"] == found["erased"]["blank"] == 0
