"""CLIP's image tower: unit vectors of pictures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fade.data.images import Preprocessor
from fade.models.complete import load_complete, load_tokenizer
from fade.models.layout import CLIP, check_model, model_sha256, resolve
from fade.models.placement import place
from fade.models.probe import check_output


class ImageEncoder:
    """A CLIP: L2-normalised features of pictures (by which neighbours are mined) and of texts (for the CLIP
    score)."""

    def __init__(self, where: str, device: torch.device | str = "cpu") -> None:
        from transformers import CLIPModel, CLIPTokenizer

        home = resolve(where, CLIP)
        (part,) = check_model(home, CLIP)
        self.model: Any = load_complete(CLIPModel, part, torch.float32, CLIP)
        self.prepare = Preprocessor(home, self.model.config.vision_config.image_size)
        check_output(self.model, self.prepare.size, where, "clip")
        self.tokenizer: Any = load_tokenizer(CLIPTokenizer, home, CLIP)
        place(self.model, device)
        self.device = device
        self.sha256 = model_sha256(home, CLIP)

    @torch.inference_mode()
    def __call__(self, pixels: np.ndarray, batch_size: int = 256) -> Tensor:
        """uint8 (B, H, W, 3) -> float32 (B, D), unit length, on the CPU."""
        parts = [self.prepare(pixels[i : i + batch_size]) for i in range(0, len(pixels), batch_size)]
        return torch.cat(
            [_unit(self.model.get_image_features(pixel_values=x.to(self.device))) for x in parts]
        )

    @torch.inference_mode()
    def text(self, prompts: Sequence[str]) -> Tensor:
        """float32 (B, D), unit length, on the CPU; a prompt that is longer than the tower's positions is
        cut."""
        size = {"max_length": self.model.config.text_config.max_position_embeddings, "truncation": True}
        tokens = self.tokenizer(list(prompts), padding="max_length", return_tensors="pt", **size)
        return _unit(self.model.get_text_features(input_ids=tokens["input_ids"].to(self.device)))


def _unit(out: Any) -> Tensor:
    """Unit features of what a tower returns: the features, or (newer transformers) an output with them."""
    return F.normalize(out if isinstance(out, Tensor) else out.pooler_output, dim=-1).cpu()


class TimedEncoder(ImageEncoder):
    """``seconds``: how long pictures have been encoded so far."""

    def __init__(self, *where: Any) -> None:
        super().__init__(*where)
        self.seconds = 0.0

    def __call__(self, pixels: np.ndarray, batch_size: int = 256) -> Tensor:
        start = time.perf_counter()
        try:
            return super().__call__(pixels, batch_size)
        finally:
            self.seconds += time.perf_counter() - start
