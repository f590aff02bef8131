"""The text's paths to the denoiser: of every family its own, apart from one another, and none left out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fade.models.conditioning import Conditioning, TextPath
from fade.models.loading import load_model
from tests.models_of_families import FAMILIES, T5_TOKENS, TOKENS

PATHS = {
    "sd1": {"clip": (TOKENS, 32)},
    "sd2": {"clip": (TOKENS, 24)},
    "zero-snr": {"clip": (TOKENS, 24)},
    "sdxl": {"clip_1": (TOKENS, 32), "clip_2": (TOKENS, 40), "pooled": (40,)},
    "sd3": {"clip": (TOKENS, 80), "t5": (T5_TOKENS, 80), "pooled": (72,)},
    "sd3-without-t5": {"clip": (TOKENS, 80), "pooled": (72,)},
    "sd35": {"clip": (TOKENS, 80), "t5": (T5_TOKENS, 80), "pooled": (72,)},
    "flux-dev": {"t5": (T5_TOKENS, 48), "pooled": (32,)},
    "flux-schnell": {"t5": (T5_TOKENS, 48), "pooled": (32,)},
}


def values(cond: Conditioning, path: TextPath) -> torch.Tensor:
    if path.pooled:
        assert cond.pooled is not None
        return cond.pooled
    return cond.tokens[:, path.tokens, path.widths]


@pytest.mark.parametrize("name", list(FAMILIES))
def test_a_familys_paths_are_apart_and_together_all_that_a_prompt_decides(
    name: str, family_dir: Callable[[str], Path]
) -> None:
    model = load_model(str(family_dir(name)), device="cpu")
    assert {
        key: tuple(values(model.encode(["a cat"]), one).shape[1:]) for key, one in model.text_paths.items()
    } == (PATHS[name])
    panda, rose = model.encode(["a panda"]), model.encode(["a rose"])
    mixed = panda
    for key, path in model.text_paths.items():
        assert not torch.equal(values(panda, path), values(rose, path)), "it depends on the prompt"
        mixed = mixed.with_path(path, rose)
        for other, one in model.text_paths.items():
            source = (
                rose if list(model.text_paths).index(other) <= list(model.text_paths).index(key) else panda
            )
            assert torch.equal(values(mixed, one), values(source, one)), (key, other)
    assert torch.equal(mixed.tokens, rose.tokens)
    assert mixed.pooled is rose.pooled is None or torch.equal(mixed.pooled, rose.pooled)


def test_the_values_of_one_prompt_go_to_all_and_nothing_is_changed_in_place() -> None:
    some = Conditioning(torch.zeros(3, 4, 6), torch.zeros(3, 2), {"sizes": torch.zeros(3, 1)})
    null = Conditioning(torch.ones(1, 4, 6), torch.ones(1, 2), {"sizes": torch.ones(1, 1)})
    tokens = some.with_path(TextPath(slice(1, 3), slice(2, None)), null)
    assert float(tokens.tokens.sum()) == 3 * 2 * 4 and tokens.tokens[:, 1:3, 2:].all()
    assert tokens.pooled is some.pooled
    pooled = some.with_path(TextPath(pooled=True), null)
    assert pooled.pooled is not None and pooled.pooled.shape == (3, 2) and pooled.pooled.all()
    assert not pooled.tokens.any() and not some.tokens.any() and not pooled.extra["sizes"].any()
