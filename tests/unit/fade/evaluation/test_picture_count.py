"""The number of pictures that is announced before an evaluation is that of the pictures which it makes."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from fade.config import EvaluateConfig, SamplerConfig
from fade.data.vocabulary import Concept, Vocabulary
from fade.evaluation import gated, other_prompts
from fade.evaluation.evaluate import evaluate
from fade.evaluation.picture_count import pictures_to_make
from fade.generation.cache import Cache
from fade.generation.generator import ImageGenerator, Pictures
from tests.unit.fade.evaluation.support import Switch

NAMES = ("panda", "bear", "koala", "rose", "taxi")
WORLD = Vocabulary(tuple(Concept(name, "all") for name in NAMES))
CONFIG = EvaluateConfig(
    images_per_concept=3, rest_concepts=1, seed=50, bootstrap=20, prompt_images=2, indirect_images=1
)
ADAPTER = "a" * 64


class Painter(ImageGenerator):
    """An `ImageGenerator` whose pictures' grey level is the concept of the prompt, beside the panda."""

    def __init__(self, folder: Path) -> None:
        base: Any = SimpleNamespace(sha256="b" * 64, dtype=torch.float32)
        super().__init__(base, SamplerConfig(batch_size=6), Cache(folder))

    def _make(
        self, prompts: Sequence[str], missing: Sequence[str], seeds: Sequence[int], adapter: str
    ) -> dict[str, Pictures]:
        self.generated += len(prompts) * len(seeds)
        out = {}
        for prompt in missing:
            pixels = np.full((len(seeds), 8, 8, 3), 255, np.uint8)
            pixels[:, :4] = max((i for i, name in enumerate(NAMES) if name in prompt), default=0)
            out[prompt] = Pictures(torch.zeros(len(seeds), 4, 2, 2), pixels, self.key(prompt, seeds, adapter))
            tensors = {"latents": out[prompt].latents, "pixels": torch.from_numpy(pixels)}
            self.cache.put("pictures", out[prompt].key, tensors)
        return out


class Reader:
    """A judge, and a CLIP, that reads the grey level."""

    labels: ClassVar = list(NAMES)

    def index(self, name: str) -> int:
        return NAMES.index(name)

    def require(self, names: Sequence[str]) -> None:
        """It knows them all."""

    def __call__(self, pixels: np.ndarray) -> torch.Tensor:
        grey = pixels[:, 0, 0, 0].astype(int).clip(max=len(NAMES) - 1)  # paper is the last one
        return torch.eye(len(NAMES))[torch.from_numpy(grey)]

    def with_features(self, pixels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        return self(pixels), self(pixels)

    def text(self, prompts: Sequence[str]) -> torch.Tensor:
        return torch.eye(len(NAMES))[[NAMES.index(prompt.removeprefix("a ")) for prompt in prompts]]


@pytest.mark.parametrize("has_gate", [False, True])
def test_as_many_pictures_are_made_as_were_announced(
    has_gate: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["fade.evaluation.evaluate"], "null_drift", lambda *_, **__: 0.0)
    monkeypatch.setattr(sys.modules["fade.evaluation.evaluate"], "drift_curve", lambda *_, **__: [])
    monkeypatch.setattr(other_prompts, "two_things", lambda one: [one, one])
    monkeypatch.setattr(gated, "gated", lambda lora, strength: contextlib.nullcontext())
    monkeypatch.setattr(gated, "gates", lambda base, texts, concept, _: [len(t) / 99 for t in texts])
    plain, lora = Painter(tmp_path), Switch()
    mesh: Any = lora
    generator = gated.GatedGenerator(plain, mesh, ["panda"]) if has_gate else plain

    def announced_and_made(neighbours: list[str]) -> tuple[int, int]:
        """Of an evaluation with these neighbours."""
        neighborhood: Any = SimpleNamespace(
            target="panda", targets=["panda"], neighbours=neighbours, heldout=["rose"]
        )
        judge: Any = Reader()
        what = (neighborhood, WORLD)
        announced, before = pictures_to_make(generator, ADAPTER, *what, CONFIG), plain.generated
        found = evaluate(generator, mesh, ADAPTER, *what, judge, CONFIG, encoder=judge).numbers
        assert {one["reason"] for one in found["other_prompts"].values()} == {""} and found["indirect"]
        return announced, plain.generated - before

    announced, made = announced_and_made(["bear"])
    direct = 4 * 3 + 3 * (3 + 2) * 2  # concepts, then templates of sentences and pairs for what must stay
    assert announced == made > 2 * direct  # and indirect prompts
    partly, more = announced_and_made(["bear", "koala"])
    assert 0 < partly == more < announced  # the others are there
    assert announced_and_made(["bear", "koala"]) == (0, 0)
