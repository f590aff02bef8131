"""A tiny model under attack, with real (noise) pictures and a judge whose answer follows from every pixel."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from fade.adapters.lora import LoraAdapter
from fade.config import AttackConfig, MeshConfig, SamplerConfig
from fade.evaluation.attacks import AttackContext
from fade.evaluation.attacks.material import gather
from fade.models.loading import load_model
from tests.datasets import make_dataset

CONFIG = AttackConfig(
    images=3, seed=70, batch=2, probes=2, finalists=2, budget=40, unrelated=1, times=(0.3, 0.9)
)
SAMPLER = SamplerConfig(steps=4, batch_size=8, guidance_scale=2.0)


class Oracle:
    """A judge that calls a picture panda when the sum of its pixels is even, else rose: any change shows."""

    labels: ClassVar = ["panda", "rose"]
    sha256 = "j" * 64

    def index(self, name: str) -> int:
        return self.labels.index(name)

    def require(self, names: Sequence[str]) -> None:
        for name in names:
            self.index(name)

    def __call__(self, pixels: np.ndarray) -> torch.Tensor:
        return torch.eye(2)[torch.from_numpy(pixels.astype(np.int64).sum((1, 2, 3)) % 2)]


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    make_dataset(folder, size=64)
    return folder


@pytest.fixture(scope="session")
def untouched(tiny_base_dir: Path, pictures: Path) -> AttackContext:
    """Loaded once; see `subject`."""
    base = load_model(str(tiny_base_dir))
    return AttackContext(base, Oracle(), SAMPLER, CONFIG, gather(base, pictures, "panda", CONFIG), "panda")  # type: ignore[arg-type]


@pytest.fixture
def subject(untouched: AttackContext) -> AttackContext:
    """With a UNet of its own, which a test may change."""
    base = copy.copy(untouched.base)
    base.denoiser, base._encoded = copy.deepcopy(base.denoiser), {}
    return replace(untouched, base=base)


@pytest.fixture
def lora(subject: AttackContext) -> Iterator[LoraAdapter]:
    """An adapter with a strong effect in the subject's UNet, active and not merged."""
    lora = LoraAdapter.insert(subject.base, MeshConfig(rank=2, alpha=2.0), seed=0)
    generator = torch.Generator().manual_seed(0)
    state = lora.state_dict()
    lora.load_state_dict(
        {name: 0.5 * torch.randn(value.shape, generator=generator) for name, value in state.items()}
    )
    yield lora
    lora.remove()
