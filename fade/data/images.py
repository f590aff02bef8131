"""Pictures as a vision model's input, in one batch and without torchvision."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class Preprocessor:
    """Resize, rescale and normalise uint8 pictures by a model directory's preprocessor_config.json (CLIP's
    mean and standard deviation where it has none)."""

    def __init__(self, home: Path, fallback_size: int) -> None:
        """fallback_size: pixels, for a model without a preprocessor_config.json. Raises OSError or ValueError
        for a file that is not JSON."""
        file = home / "preprocessor_config.json"
        config = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        size: Any = config.get("crop_size") or config.get("size") or fallback_size
        if isinstance(size, dict):
            size = size.get("height") or size.get("shortest_edge")
        self.size = int(size)
        self.mean = torch.tensor(config.get("image_mean", _CLIP_MEAN)).view(1, 3, 1, 1)
        self.std = torch.tensor(config.get("image_std", _CLIP_STD)).view(1, 3, 1, 1)

    def __call__(self, pixels: np.ndarray) -> Tensor:
        """uint8 (B, H, W, 3) -> float32 (B, 3, size, size)."""
        x = torch.as_tensor(pixels).permute(0, 3, 1, 2).float() / 255
        if x.shape[-2:] != (self.size, self.size):
            x = F.interpolate(
                x, size=(self.size, self.size), mode="bicubic", antialias=True, align_corners=False
            ).clamp(0, 1)
        return (x - self.mean) / self.std


def read_pictures(paths: Sequence[Path]) -> np.ndarray:
    """RGB pictures of one size as uint8 (B, H, W, 3), read by a pool of threads. Raises OSError for a file
    that is no picture, ValueError for pictures of several sizes."""
    from PIL import Image

    def one(path: Path) -> np.ndarray:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"))

    with ThreadPoolExecutor() as pool:
        return np.stack(list(pool.map(one, paths)))
