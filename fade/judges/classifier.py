"""The judge: an image classifier loaded by transformers, asked for the probability of every label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fade.data.images import Preprocessor
from fade.errors import BaseModelError, EvaluationError
from fade.models.loading import directory_sha256, refuse_pickles, resolve


class Classifier:
    """Probabilities over the labels of an image classifier (FADE evaluates with a ResNet-50 fine-tuned per
    data set)."""

    def __init__(self, where: str, device: torch.device | str = "cpu") -> None:
        from transformers import AutoModelForImageClassification

        home = resolve(where, "judge")
        refuse_pickles(home, "judge")
        how: dict[str, Any] = {"local_files_only": True, "use_safetensors": True, "dtype": torch.float32}
        try:
            self.model: Any = AutoModelForImageClassification.from_pretrained(home, **how)
        except Exception as error:  # transformers raises many kinds
            what = f"{where} is no image classifier that loads: {error}."
            raise BaseModelError(what, stage="judge", action="see data.judge.") from error
        self.model.to(device).eval().requires_grad_(False)
        self.device = device
        self.head = _head(self.model, where)
        self.labels = [str(self.model.config.id2label[i]) for i in range(self.model.config.num_labels)]
        self.prepare = Preprocessor(home, getattr(self.model.config, "image_size", 224))
        self.sha256 = directory_sha256(home)

    def index(self, concept: str) -> int:
        """The label's position. Raises EvaluationError when the judge does not know the concept."""
        try:
            return self.labels.index(concept)
        except ValueError:
            what = f"the judge has no label {concept!r}."
            raise EvaluationError(
                what, stage="evaluate", action="train a judge on this vocabulary, or name one in data.judge."
            ) from None

    def require(self, concepts: Sequence[str]) -> None:
        """Raises EvaluationError for the first concept without a label."""
        for concept in concepts:
            self.index(concept)

    @torch.inference_mode()
    def __call__(self, pixels: np.ndarray, batch_size: int = 256) -> Tensor:
        """Probabilities (B, L), float32 on the CPU, of uint8 pictures (B, H, W, 3)."""
        parts = (
            self.prepare(pixels[i : i + batch_size]).to(self.device)
            for i in range(0, len(pixels), batch_size)
        )
        return torch.cat([self.model(pixel_values=x).logits.float().softmax(-1).cpu() for x in parts])

    @torch.inference_mode()
    def features(self, pixels: np.ndarray, batch_size: int = 256) -> Tensor:
        """Penultimate features (B, D), float32 on the CPU, of uint8 pictures (B, H, W, 3): what the last
        linear layer reads."""
        seen: list[Tensor] = []
        handle = self.head.register_forward_pre_hook(
            lambda _, inputs: seen.append(inputs[0].flatten(1).float().cpu())
        )
        try:
            self(pixels, batch_size)
        finally:
            handle.remove()
        return torch.cat(seen)


def _head(model: Any, where: str) -> nn.Module:
    """The linear layer that gives the logits, whatever the architecture calls it. Raises BaseModelError when
    there is none."""
    linear = [
        m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == model.config.num_labels
    ]
    if not linear:
        what = f"{where} does not end in a linear layer, so it has no features to compare pictures by."
        raise BaseModelError(what, stage="judge", action="use a classifier with a linear head.")
    return linear[-1]
