"""CLIP's image tower: unit vectors of pictures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fade.data.images import Preprocessor
from fade.errors import BaseModelError
from fade.models.loading import directory_sha256, refuse_pickles, resolve


class ImageEncoder:
    """A CLIP: L2-normalised features of pictures (what mines the neighbours) and of texts (what the CLIP
    score compares them with)."""

    def __init__(self, where: str, device: torch.device | str = "cpu") -> None:
        from transformers import CLIPModel

        home = resolve(where, "clip")
        refuse_pickles(home, "clip")
        try:
            self.model: Any = CLIPModel.from_pretrained(home, local_files_only=True, use_safetensors=True)
        except Exception as error:  # transformers raises many kinds
            raise BaseModelError(
                f"{where} is no CLIP that loads: {error}.", stage="clip", action="see data.clip."
            ) from error
        self.model.to(device).eval().requires_grad_(False)
        self.device, self._home, self._where = device, home, where
        self.prepare = Preprocessor(home, self.model.config.vision_config.image_size)
        self.sha256 = directory_sha256(home)

    @torch.inference_mode()
    def __call__(self, pixels: np.ndarray, batch_size: int = 256) -> Tensor:
        """uint8 (B, H, W, 3) -> float32 (B, D), unit length, on the CPU."""
        parts = (
            self.prepare(pixels[i : i + batch_size]).to(self.device)
            for i in range(0, len(pixels), batch_size)
        )
        return torch.cat(
            [F.normalize(_tensor(self.model.get_image_features(pixel_values=x)), dim=-1).cpu() for x in parts]
        )

    @cached_property
    def tokenizer(self) -> Any:
        """Read when the first text comes: mining needs none. Raises BaseModelError when the directory has
        none that loads."""
        from transformers import CLIPTokenizer

        action = "see data.clip; it needs the CLIP's tokenizer.json."
        if not any(
            (self._home / name).is_file() for name in ("tokenizer.json", "vocab.json")
        ):  # transformers makes an empty one then
            raise BaseModelError(f"{self._where} has no tokenizer.", stage="clip", action=action)
        try:
            return CLIPTokenizer.from_pretrained(self._home, local_files_only=True)
        except Exception as error:  # transformers raises many kinds
            raise BaseModelError(
                f"{self._where} has no tokenizer that loads: {error}.", stage="clip", action=action
            ) from error

    @torch.inference_mode()
    def text(self, prompts: Sequence[str]) -> Tensor:
        """float32 (B, D), unit length, on the CPU; a prompt that is longer than the tower's positions is
        cut."""
        length = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenizer(
            list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        out = self.model.get_text_features(input_ids=tokens["input_ids"].to(self.device))
        return F.normalize(_tensor(out), dim=-1).cpu()


def _tensor(out: Any) -> Tensor:
    """What a tower returns: the features, or (newer transformers) an output that holds them."""
    features: Tensor = out if isinstance(out, Tensor) else out.pooler_output
    return features


class TimedEncoder(ImageEncoder):
    """``seconds``: how long pictures were looked at so far."""

    def __init__(self, *where: Any) -> None:
        super().__init__(*where)
        self.seconds = 0.0

    def __call__(self, pixels: np.ndarray, batch_size: int = 256) -> Tensor:
        start = time.perf_counter()
        try:
            return super().__call__(pixels, batch_size)
        finally:
            self.seconds += time.perf_counter() - start
