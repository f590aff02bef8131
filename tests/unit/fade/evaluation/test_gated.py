"""Pictures with the gate: each prompt by the adapter at its own strength, under a key of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from fade.adapters.gating import gated, gates
from fade.adapters.lora import LoraAdapter
from fade.config import MeshConfig, MethodConfig, SamplerConfig
from fade.errors import AdapterError
from fade.evaluation.gated import GatedGenerator, generator_of
from fade.generation.cache import Cache
from fade.generation.generator import ImageGenerator
from fade.models.loading import load_model

PROMPTS, SEEDS = ["a panda", "a tulip"], [1, 2]


@pytest.fixture
def plain(tiny_base_dir: Path, tmp_path: Path) -> ImageGenerator:
    base = load_model(str(tiny_base_dir), device="cpu")
    return ImageGenerator(base, SamplerConfig(steps=2), Cache(tmp_path / "cache"))


@pytest.fixture
def lora(plain: ImageGenerator) -> Iterator[LoraAdapter]:
    lora = LoraAdapter.insert(plain.base, MeshConfig(rank=1), seed=0)
    filled = {n: v if "lora_A" in n else torch.full_like(v, 0.1) for n, v in lora.state_dict().items()}
    lora.load_state_dict(filled)
    lora.merge()
    yield lora
    lora.remove()


def test_every_prompt_is_drawn_at_the_strength_of_its_own_gate(
    plain: ImageGenerator, lora: LoraAdapter
) -> None:
    made = GatedGenerator(plain, lora, ["panda"]).generate(PROMPTS, SEEDS, "a" * 64)
    full, part = gates(plain.base, PROMPTS, "panda", plain.sampler.prompt)
    assert full == 1 and 0 <= part < 1
    whole = plain.generate(PROMPTS, SEEDS, "b" * 64)
    assert torch.allclose(made["a panda"].latents, whole["a panda"].latents, atol=1e-5)
    assert not torch.allclose(made["a tulip"].latents, whole["a tulip"].latents, atol=1e-5)
    with gated(lora, part):
        alone = plain.generate(["a tulip"], SEEDS, "c" * 64)
    assert torch.equal(made["a tulip"].latents, alone["a tulip"].latents)


def test_the_adapter_is_at_full_strength_again_and_no_key_is_shared(
    plain: ImageGenerator, lora: LoraAdapter
) -> None:
    before = plain.generate(PROMPTS, SEEDS, "a" * 64)
    made = GatedGenerator(plain, lora, ["panda"]).generate(PROMPTS, SEEDS, "a" * 64)
    assert plain.generated == 4 * 2 and not {one.key for one in before.values()} & {
        one.key for one in made.values()
    }
    again = ImageGenerator(plain.base, plain.sampler, Cache(plain.cache.root / "other"))
    after = again.generate(PROMPTS, SEEDS, "a" * 64)
    assert all(torch.equal(before[p].latents, after[p].latents) for p in PROMPTS)


def test_of_several_concepts_the_nearest_decides(plain: ImageGenerator, lora: LoraAdapter) -> None:
    both = GatedGenerator(plain, lora, ["panda", "tulip"]).generate(PROMPTS, SEEDS, "a" * 64)
    whole = plain.generate(PROMPTS, SEEDS, "b" * 64)
    assert all(torch.allclose(both[p].latents, whole[p].latents, atol=1e-5) for p in PROMPTS)


@pytest.mark.parametrize(("blank", "broken"), [(1, False), (2, True)])
def test_pictures_of_one_colour_are_counted_over_all_prompts(
    plain: ImageGenerator, lora: LoraAdapter, blank: int, broken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As without a gate: half of them stop a run, and not all of one prompt."""
    prompts = ["a panda", "a tulip", "a rose"]
    decode, left = plain.base.decode, [blank]

    def half_blank(latents: torch.Tensor) -> np.ndarray:
        left[0] -= 1
        pixels = decode(latents)
        return np.zeros_like(pixels) if left[0] >= 0 else pixels

    monkeypatch.setattr(plain.base, "decode", half_blank)
    generator = GatedGenerator(plain, lora, ["panda"])
    if broken:
        with pytest.raises(AdapterError, match="have one colour in every pixel"):
            generator.generate(prompts, SEEDS, "a" * 64)
    else:
        assert [*generator.generate(prompts, SEEDS, "a" * 64)] == prompts


def test_the_original_models_pictures_have_no_gate(plain: ImageGenerator, lora: LoraAdapter) -> None:
    with lora.off():
        made = GatedGenerator(plain, lora, ["panda"]).generate(PROMPTS, SEEDS)
        assert {p: one.key for p, one in made.items()} == {p: plain.key(p, SEEDS) for p in PROMPTS}


@pytest.mark.parametrize(
    ("variant", "kind"), [("gated", GatedGenerator), ("latent-anchoring", ImageGenerator)]
)
def test_a_gated_method_is_judged_with_its_gate(
    plain: ImageGenerator, lora: LoraAdapter, variant: str, kind: type[ImageGenerator]
) -> None:
    method = MethodConfig(name="spm", variant=variant)
    assert type(generator_of(method, plain, lora, ["panda"])) is kind
