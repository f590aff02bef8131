"""Stable Diffusion XL: the null prompt and the picture's size as inputs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch

from fade.models.loading import load_model


def test_the_empty_prompt_is_zeros_where_the_directory_has_it_so(
    family_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(family_dir("sdxl"), tmp_path / "sdxl"))
    forced = load_model(str(folder)).encode(["", "a panda"])
    index = json.loads((folder / "model_index.json").read_text())
    assert index["force_zeros_for_empty_prompt"] is True
    (folder / "model_index.json").write_text(json.dumps({**index, "force_zeros_for_empty_prompt": False}))
    plain = load_model(str(folder)).encode(["", "a panda"])
    assert forced.pooled is not None and plain.pooled is not None
    assert not forced.tokens[0].any() and not forced.pooled[0].any()
    assert plain.tokens[0].any() and plain.pooled[0].any()  # control
    assert torch.equal(forced.tokens[1], plain.tokens[1]) and torch.equal(forced.pooled[1], plain.pooled[1])


def test_size_and_crop_are_those_of_a_whole_picture(family_dir: Callable[[str], Path]) -> None:
    model = load_model(str(family_dir("sdxl")))
    assert model.encode(["a panda"]).extra["time_ids"].tolist() == [[64, 64, 0, 0, 64, 64]]
    x, t, cond = model.example(torch.Generator().manual_seed(0))
    other = {"time_ids": cond.extra["time_ids"] / 2}
    with torch.no_grad():
        assert not torch.equal(
            model.predict(x, t, cond), model.predict(x, t, type(cond)(cond.tokens, cond.pooled, other))
        )
