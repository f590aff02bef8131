"""Pictures as a vision model's input, in one batch and without torchvision."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fade.data.pictures import decode_rgb
from fade.errors import BaseModelError, DataError
from fade.utils.parsing import MalformedError, parse_json
from fade.utils.reading import PICTURE, SETTINGS, read_bytes, read_text

MAX_SIDE = 4096
"""Pixels of the side of a vision model's input."""
_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class Preprocessor:
    """Resize, rescale and normalise uint8 pictures by a model directory's preprocessor_config.json (CLIP's
    mean and standard deviation where it has none)."""

    def __init__(self, home: Path, fallback_size: int) -> None:
        """fallback_size: pixels, for a model without a preprocessor_config.json. Raises BaseModelError for a
        file that is no JSON, or whose size, mean or deviation cannot be used."""
        file = home / "preprocessor_config.json"
        try:
            config: Any = _content(file)
            size: Any = config.get("crop_size") or config.get("size") or fallback_size
            if isinstance(size, dict):
                size = size.get("height") or size.get("shortest_edge")
            self.size = int(size)
            self.mean = torch.tensor(config.get("image_mean", _CLIP_MEAN)).view(1, 3, 1, 1)
            self.std = torch.tensor(config.get("image_std", _CLIP_STD)).view(1, 3, 1, 1)
        except (OSError, MalformedError) as error:
            raise _unusable(file, f"cannot be read: {error}") from None
        except (TypeError, ValueError, AttributeError, RuntimeError, OverflowError) as error:
            raise _unusable(file, f"cannot be used: {error}") from None
        if not 1 <= self.size <= MAX_SIDE:
            raise _unusable(file, f"has the size {self.size}, not 1 to {MAX_SIDE} pixels")
        if not bool((torch.isfinite(self.mean) & torch.isfinite(self.std) & (self.std > 0)).all()):
            raise _unusable(file, "has a mean or a deviation that cannot be used")

    def __call__(self, pixels: np.ndarray) -> Tensor:
        """uint8 (B, H, W, 3) -> float32 (B, 3, size, size)."""
        x = torch.as_tensor(pixels).permute(0, 3, 1, 2).float() / 255
        if x.shape[-2:] != (self.size, self.size):
            x = F.interpolate(
                x, size=(self.size, self.size), mode="bicubic", antialias=True, align_corners=False
            ).clamp(0, 1)
        return (x - self.mean) / self.std


def _content(file: Path) -> Any:
    """The JSON of a file; empty for one that is not there."""
    try:
        return parse_json(read_text(file, SETTINGS), ours=False)
    except FileNotFoundError:
        return {}


def _unusable(file: Path, why: str) -> BaseModelError:
    action = "compare it with one that transformers saved."
    return BaseModelError(f"{file} {why}.", stage="models", action=action)


def read_pictures(paths: Sequence[Path]) -> np.ndarray:
    """RGB pictures of one size as uint8 (B, H, W, 3), read by a pool of threads. Raises DataError for a file
    that is no picture as `fade.data.pictures` wants it, ValueError for pictures of several sizes."""

    def one(path: Path) -> np.ndarray:
        try:
            return decode_rgb(read_bytes(path, PICTURE))[1]
        except (OSError, ValueError) as error:
            action = "pull the data again (`fade pull`), or mend the picture."
            raise DataError(f"{path} cannot be read: {error}.", stage="data", action=action) from error

    with ThreadPoolExecutor() as pool:
        return np.stack(list(pool.map(one, paths)))
