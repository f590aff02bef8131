"""A handful of drawings for the trainings of the miniatures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fade.config import SceneMix
from fade.pretrain.captions import words_of
from fade.pretrain.scenes import SceneSampler
from fade.pretrain.tokenizer import build_tokenizer

NAMES, STYLES = ("red ball", "blue box", "green leaf", "red hat"), ("plain", "bold")


def sampler() -> SceneSampler:
    """Eight drawings: a square of its own colour each, on transparent ground."""
    sprites = np.zeros((8, 64, 64, 4), np.uint8)
    sprites[:, 8:56, 8:56, 3] = 255
    sprites[:, 8:56, 8:56, :3] = np.random.default_rng(0).integers(0, 200, (8, 1, 1, 3))
    names, styles = [name for name in NAMES for _ in STYLES], [*STYLES] * len(NAMES)
    return SceneSampler(sprites, names, styles, torch.full((8,), 1 / 8), SceneMix())


def embeddings() -> dict[str, Tensor]:
    """A unit vector (16,) of each name."""
    rows = torch.randn(len(NAMES), 16, generator=torch.Generator().manual_seed(0))
    return dict(zip(NAMES, F.normalize(rows, dim=-1), strict=True))


def tokenizer(folder: Path) -> Any:
    """Of the names, the styles and the grammar."""
    from transformers import CLIPTokenizer

    build_tokenizer(words_of(NAMES, STYLES), 28, folder)
    return CLIPTokenizer.from_pretrained(folder)
