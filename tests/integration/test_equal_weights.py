"""Equal weights predict equal bits, whatever files they lie in."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fade.config import SamplerConfig
from fade.models.loading import load_model
from fade.models.sampling import sample
from tests.models_of_families import FAMILIES, open_pipeline


def sharded(home: Path, copy: Path) -> None:
    open_pipeline(home).save_pretrained(copy, max_shard_size="60KB")


def longer_head(more: int) -> Callable[[Path, Path], None]:
    """The same files, each with a note of so many bytes in its head."""

    def write(home: Path, copy: Path) -> None:
        shutil.copytree(home, copy)
        for file in copy.rglob("*.safetensors"):
            save_file(load_file(file), file, {"format": "pt", "note": "x" * more})

    return write


COPIES = {"sharded": sharded, "a note": longer_head(8), "a longer note": longer_head(16)}


def first_tensors(home: Path) -> list[int]:
    """Where in each file of weights the first tensor begins, in bytes."""
    return [
        8 + int.from_bytes(file.read_bytes()[:8], "little") for file in sorted(home.rglob("*.safetensors"))
    ]


@pytest.mark.parametrize("name", list(FAMILIES))
def test_copies_of_equal_weights_predict_the_same_bits(
    name: str, family_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    """MKL's kernels of 128 bits, which it takes where MKL_ENABLE_INSTRUCTIONS=SSE4_2 says so and on some
    processors, round otherwise at addresses that are no multiples of 16."""
    home, sampler = family_dir(name), SamplerConfig(scheduler="euler", steps=2, guidance_scale=1.0)
    homes, outputs = {"whole": home}, {}
    for kind, write in COPIES.items():
        write(home, tmp_path / kind)
        homes[kind] = tmp_path / kind
    for kind, one in homes.items():
        model = load_model(str(one), device="cpu")
        with torch.no_grad():
            predicted = model.predict(*model.example(torch.Generator().manual_seed(4)))
        latents = sample(model, ["a panda"], [1], sampler)
        outputs[kind] = predicted, latents, torch.from_numpy(model.decode(latents))
    for kind, tensors in outputs.items():
        same = [torch.equal(a, b) for a, b in zip(tensors, outputs["whole"], strict=True)]
        assert same == [True] * 3, kind

    starts = {kind: first_tensors(one) for kind, one in homes.items()}  # control: the copies differ
    assert len(starts["sharded"]) > len(starts["whole"])
    offsets = zip(starts["whole"], starts["a note"], starts["a longer note"], strict=True)
    assert all({start % 16 for start in some} == {0, 8} for some in offsets)
    assert list((tmp_path / "sharded").rglob("*.index.json"))
