"""The gate: 1 at the concept, lower elsewhere; an adapter scaled by it and given back byte for byte."""

from __future__ import annotations

import pytest
import torch

from fade.adapters.gating import gated, gates
from fade.adapters.lora import LoraAdapter
from fade.config import MeshConfig
from fade.models.loading import load_model


@pytest.fixture(scope="module")
def base(tiny_base_dir):
    return load_model(str(tiny_base_dir), device="cpu")


def test_a_prompt_of_the_concept_has_gate_1_and_every_gate_lies_between(base):
    found = gates(
        base, ["a panda", "a tulip", "the style", "panda bear in the style"], "panda", "a {concept}"
    )
    assert found[0] == found[3] == 1.0  # the last holds all of the concept's tokens
    assert 0 <= found[1] < 1 and 0 <= found[2] < 1


def test_half_of_the_tokens_give_at_least_a_half(base):
    (half,) = gates(base, ["a bear"], "panda bear", "a {concept}")
    assert 0.5 <= half < 1


@pytest.mark.parametrize("merged", [False, True])
def test_a_gate_scales_the_adapter_and_gives_it_back(base, merged):
    x, t, e = (
        torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1)),
        torch.tensor([500]),
        base.encode(["a panda"]),
    )

    def output():
        with torch.no_grad():
            return base.predict(x, t, e)

    original = output()
    lora = LoraAdapter.insert(base, MeshConfig(rank=1), seed=0)
    try:
        lora.load_state_dict(
            {n: v if "lora_A" in n else torch.full_like(v, 0.1) for n, v in lora.state_dict().items()}
        )
        if merged:
            lora.merge()
        whole = output()
        with gated(lora, 0.0):
            assert torch.allclose(output(), original, atol=1e-6)
        with gated(lora, 0.5):
            half = output()
        assert not torch.allclose(half, whole, atol=1e-5) and not torch.allclose(half, original, atol=1e-5)
        assert torch.equal(output(), whole) and lora.merged == merged
    finally:
        lora.remove()
