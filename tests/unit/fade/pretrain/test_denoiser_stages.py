"""A denoiser begins with another one's weights."""

from __future__ import annotations

import pytest
import torch

from fade.config import DenoiserConfig
from fade.errors import DataError
from fade.pretrain.denoiser_stages import READS_PROMPT, begin_with
from fade.pretrain.families import FAMILIES, Widths

SMALL = DenoiserConfig(steps=1, batch_size=1, lr=0.1, channels=(16, 16), heads=2)


def test_all_but_what_reads_the_prompt_is_taken() -> None:
    sd = FAMILIES["sd"].denoiser(SMALL, Widths(4, 8, 0))
    sdxl = FAMILIES["sdxl"].denoiser(SMALL, Widths(4, 24, 12))
    before = {name: weight.clone() for name, weight in sdxl.state_dict().items()}
    begin_with(sdxl, sd.state_dict(), "unet_xl")
    found = sd.state_dict()
    for name, weight in sdxl.state_dict().items():
        expected = before[name] if READS_PROMPT.search(name) else found[name].view_as(weight)
        assert torch.equal(weight, expected), name


def test_a_denoiser_of_other_channels_is_refused_with_the_key_to_change() -> None:
    sd = FAMILIES["sd"].denoiser(SMALL, Widths(4, 8, 0))
    wider = FAMILIES["sdxl"].denoiser(SMALL.model_copy(update={"channels": (16, 32)}), Widths(4, 24, 12))
    with pytest.raises(DataError, match=r"pretrain\.unet_xl\.channels"):
        begin_with(wider, sd.state_dict(), "unet_xl")
