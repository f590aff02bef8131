"""A model whose prompts become known states, and adapters for it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fade.adapters.kept import KeptConcepts
from fade.adapters.lora import LoraAdapter
from fade.adapters.release import ReleaseSettings
from fade.config import MeshConfig, ReleaseConfig
from fade.models.conditioning import Conditioning
from fade.utils.seeds import named_seed
from tests.support import CONCEPTS, tiny_model, tiny_tokenizer, tiny_unet

BASE = "b" * 64
WIDTH = 32
TEXT = MeshConfig(rank=2, alpha=3.0, targets=("text",))
VOCABULARY = (*CONCEPTS, "lemon", "pear")


def direction(*name: object) -> Tensor:
    """A unit vector (WIDTH,) of a name."""
    generator = torch.Generator().manual_seed(named_seed(*name))
    vector = torch.randn(WIDTH, generator=generator)
    return vector / vector.norm()


def states(prompt: str, alike: Mapping[str, str]) -> Tensor:
    """(4, WIDTH): what every prompt has, each word of it, and padding. alike: word -> the word whose states
    it has, too."""
    words = [alike.get(word, word) for word in prompt.split()] or [""]
    mean = torch.stack([direction("word", word) for word in words]).mean(0)
    rows = [2 * direction("begin"), direction("word", words[-1]), mean, direction("padding") + 0.5 * mean]
    return torch.stack(rows)


def text_model(sha256: str = BASE, alike: Mapping[str, str] | None = None) -> Any:
    """A tiny StableDiffusion that encodes; ``calls`` lists the prompts of each call of its encoder."""
    model = tiny_model(tiny_unet(), sha256)
    model.tokenizer = tiny_tokenizer()
    model.calls = []

    def encode_batch(prompts: Sequence[str]) -> Conditioning:
        model.calls.append(list(prompts))
        return Conditioning(torch.stack([states(prompt, alike or {}) for prompt in prompts]))

    model.encode_batch = encode_batch
    return model


def champion(
    folder: Path,
    concept: str,
    *,
    config: MeshConfig = TEXT,
    base: str = BASE,
    neighbours: Sequence[str] = ("koala",),
    answers_to: str = "",
    **facts: str,
) -> Path:
    """The file of an adapter that answers to the states of its concept's word (or of ``answers_to``), and a
    little to anything."""
    model = text_model(base)
    lora = LoraAdapter.insert(model, config, seed=0)
    generator = torch.Generator().manual_seed(named_seed("champion", concept))
    with torch.no_grad():
        for name, value in lora.named_parameters().items():
            value.copy_(0.1 * torch.randn(value.shape, generator=generator))
            if "attn2.to_k.lora_A" in name or "attn2.to_v.lora_A" in name:
                value *= 0.2
                value[0] += direction("word", answers_to or concept.split()[-1])
    path = folder / f"{concept.replace(' ', '-')}-{len(list(folder.glob('*')))}.safetensors"
    own = {"base_sha256": base, "concept": concept, "method": "fade", "neighbours": json.dumps(neighbours)}
    lora.save(path, {**own, **facts})
    return path


def settings(
    erased: Sequence[str], neighbours: Sequence[str] = ("koala",), **changes: Any
) -> ReleaseSettings:
    """Of a release of VOCABULARY, solved."""
    config = ReleaseConfig.model_validate({"mode": "solve", "words": 4, **changes})
    kept = KeptConcepts.of(VOCABULARY, erased, neighbours, config)
    return ReleaseSettings(config, kept, "a {concept}")
