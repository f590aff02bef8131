"""Stable Diffusion 3: three text encoders, the third of which may be left out."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fade.errors import BaseModelError
from fade.models.loading import load_model
from tests.models_of_families import T5_TOKENS, TOKENS


def test_clip_states_are_padded_and_t5s_are_appended(family_dir: Callable[[str], Path]) -> None:
    with_t5, without = (load_model(str(family_dir(name))) for name in ("sd3", "sd3-without-t5"))
    one, two = with_t5.encode(["a panda"]), without.encode(["a panda"])
    assert one.tokens.shape == (1, TOKENS + T5_TOKENS, 80) and two.tokens.shape == (1, TOKENS + 256, 80)
    for cond in (one, two):  # 32 and 40 numbers of the two CLIPs side by side, then zeros
        assert bool(cond.tokens[:, :TOKENS, :72].all()) and not bool(cond.tokens[:, :TOKENS, 72:].any())
        assert cond.pooled is not None and cond.pooled.shape == (1, 72)
    assert bool(one.tokens[:, TOKENS:].any()) and not bool(two.tokens[:, TOKENS:].any())


@pytest.mark.parametrize("name", ["sd3", "flux-dev"])
def test_a_t5_that_puts_out_no_numbers_is_refused(
    name: str, family_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(family_dir(name), tmp_path / name))
    part = "text_encoder_3" if name == "sd3" else "text_encoder_2"
    file = folder / part / "model.safetensors"
    state = load_file(file)
    state["encoder.final_layer_norm.weight"][:] = float("nan")
    save_file(state, file, {"format": "pt"})
    with pytest.raises(BaseModelError, match=part):
        load_model(str(folder))
    assert torch.isfinite(load_model(str(family_dir(name))).encode(["a panda"]).tokens).all()  # control
