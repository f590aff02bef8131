"""What `fade nudity` draws and counts by each protocol, and how the counts of batches add up."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from fade.adapters.lora import LoraAdapter
from fade.config import MeshConfig, Params
from fade.errors import BaseModelError, EvaluationError, UsageError
from fade.evaluation.nudity import count_detections
from fade.run.context import RunContext
from fade.utils import notes
from tasks.stages import nudity as stage
from tasks.stages.nudity import NudityOptions, added, nudity
from tests.prompt_tables import esd_table, official_table, save


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


Shapes = list[tuple[int, float, int, tuple[int, ...], list[int]]]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Shapes:
    """What is sampled: pictures, guidance, steps, shape of a latent, seeds. Nothing is drawn for real."""
    calls: Shapes = []

    def solve(base: Any, cond: Any, null: Any, seeds: list[int], sampler: Any, shape: Any) -> torch.Tensor:
        calls.append((len(seeds), sampler.guidance_scale, sampler.steps, shape, list(seeds)))
        assert len(cond) == len(null) == len(seeds)
        return torch.randn(len(seeds), *shape, generator=torch.Generator().manual_seed(0))

    monkeypatch.setattr(stage, "solve", solve)
    return calls


def small_table(path: Path, width: int = 64, height: int = 64) -> Path:
    """Three prompts of other guidances, the last of another size."""
    head = ("prompt", "sd_seed", "sd_guidance_scale", "sd_image_width", "sd_image_height")
    rows = [("a panda", 5, 7, 64, 64), ("a cat", 6, 255, 64, 64), ("a dog", 4290749014, 7, width, height)]
    return save(path, [head, *rows])


def run_nudity(context: RunContext, prompts: Path, **options: Any) -> dict[str, Any]:
    return nudity(context, prompts, str(context.runs.parent / "a.safetensors"), NudityOptions(**options))


def test_ours_draws_with_the_sampler_and_the_rows_seeds(
    context: RunContext, tmp_path: Path, drawn: Shapes
) -> None:
    run_nudity(context, small_table(tmp_path / "p.csv", 128, 32))
    scale = context.params.sampler.guidance_scale
    once = [(2, scale, 1, (4, 8, 8), [5, 6]), (1, scale, 1, (4, 8, 8), [4290749014])]
    assert drawn == once * 2  # the original, then the erased one from the same noise


def test_spm_draws_each_row_with_its_own_guidance_and_size(
    context: RunContext, tmp_path: Path, drawn: Shapes
) -> None:
    found = run_nudity(context, small_table(tmp_path / "p.csv", 128, 32), protocol="spm")
    once = [(1, 7, 20, (4, 8, 8), [5]), (1, 255, 20, (4, 8, 8), [6]), (1, 7, 20, (4, 4, 16), [4290749014])]
    assert drawn == once * 2
    assert found["sampled"]["sizes"] == {"64x64": 2, "128x32": 1} and len(found["base"]["labels"]) == 9


def test_i2p_draws_ten_pictures_a_prompt(context: RunContext, tmp_path: Path, drawn: Shapes) -> None:
    found = run_nudity(context, small_table(tmp_path / "p.csv"), protocol="i2p", limit=1)
    assert [seed for *_, seeds in drawn for seed in seeds] == [*range(5, 15)] * 2
    assert found["base"]["n"] == 10 and len(found["base"]["labels"]) == 5


def test_esd_draws_all_at_one_guidance(context: RunContext, tmp_path: Path, drawn: Shapes) -> None:
    found = run_nudity(context, esd_table(tmp_path / "u.csv"), protocol="esd", lenient=True, limit=2)
    assert drawn == [(2, 7.5, 1, (4, 8, 8), [4261553411, 612304884])] * 2
    assert [one["lost"] for one in found["left_out"]] == ["Null"] and found["seeds"] == "table"


def test_the_result_names_the_protocol_and_is_written_with_its_lineage(
    context: RunContext, tmp_path: Path, drawn: Shapes
) -> None:
    prompts = official_table(tmp_path / "i2p.csv")
    found = run_nudity(context, prompts, protocol="i2p", nude=True, limit=1)
    sources = {one["name"]: one["source"] for one in found["protocol"]["settings"]}
    assert sources["guidance"] == "release" and sources["detector"] == "ours"
    assert "not on one scale" in found["protocol"]["scale"]
    scores = json.loads(Path(found["scores"]).read_text())
    assert scores == found and scores["lineage"]["options"]["protocol"] == "i2p"
    assert Path(found["scores"]).is_relative_to(context.runs / "nudity")
    page = Path(found["report"]).read_text()
    assert "Protocol `i2p`" in page and "EXPOSED_BREAST_F" in page and "| release |" in page
    other = run_nudity(context, prompts, protocol="esd", nude=True, limit=1)
    assert other["scores"] != found["scores"]


BAD_ROWS: dict[str, tuple[Callable[[Path], Path], str, str]] = {
    "a size no base draws": (lambda p: small_table(p, 60, 64), "spm", "prompt 3 is 60 x 64 pixels"),
    "no size": (
        lambda p: save(p, [("prompt", "seed"), ("a", 1)]),
        "spm",
        "its own guidance, and it has none",
    ),
    "no guidance": (lambda p: save(p, [("prompt", "seed"), ("a", 1)]), "i2p", "its own guidance"),
    "another protocol": (small_table, "sld", "unknown protocol 'sld'.*ours, spm, i2p, esd"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_what_a_protocol_cannot_draw_is_named_before_anything_is_drawn(
    context: RunContext, tmp_path: Path, drawn: Shapes, case: str
) -> None:
    make, protocol, sentence = BAD_ROWS[case]
    with pytest.raises(UsageError, match=sentence):
        run_nudity(context, make(tmp_path / "p.csv"), protocol=protocol)
    assert drawn == []


def test_a_setting_of_ours_that_a_protocol_does_not_read_is_named(
    context: RunContext, tmp_path: Path, drawn: Shapes, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = context.params.nudity.model_copy(update={"threshold": 0.7, "pictures": 2})
    run = context.with_params(context.params.model_copy(update={"nudity": ours}), "panda")
    assert run_nudity(run, small_table(tmp_path / "p.csv"), limit=1)["base"]["threshold"] == 0.7
    assert [seeds for *_, seeds in drawn] == [[5, 6]] * 2 and "not used" not in capsys.readouterr().err
    run_nudity(run, small_table(tmp_path / "q.csv"), limit=1, protocol="spm")
    assert "nudity.threshold is not used: protocol spm has its own" in capsys.readouterr().err
