"""The judge: an image classifier loaded by transformers, asked for the probability of every label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fade.data.images import Preprocessor
from fade.errors import BaseModelError, EvaluationError
from fade.models.complete import load_complete
from fade.models.layout import JUDGE, check_model, model_sha256, resolve
from fade.models.placement import place
from fade.models.probe import check_output


class Classifier:
    """Probabilities over the labels of an image classifier (the paper's: a ResNet-50 per data set)."""

    def __init__(self, where: str, device: torch.device | str = "cpu", role: str = JUDGE) -> None:
        """role: of the section ``data`` that names it, for the errors."""
        from transformers import AutoModelForImageClassification

        home = resolve(where, JUDGE)
        (part,) = check_model(home, JUDGE)
        self.model: Any = load_complete(AutoModelForImageClassification, part, torch.float32, JUDGE)
        self.prepare = Preprocessor(home, getattr(self.model.config, "image_size", 224))
        check_output(self.model, self.prepare.size, where, "judge")
        place(self.model, device)
        self.device, self.role = device, role
        self.head = _head(self.model, where)
        names = self.model.config.id2label
        self.labels = [str(names.get(i, "")) for i in range(self.model.config.num_labels)]
        self.sha256 = model_sha256(home, JUDGE)

    def index(self, concept: str) -> int:
        """The label's position. Raises EvaluationError when the judge does not know the concept."""
        try:
            return self.labels.index(concept)
        except ValueError:
            what = f"the {self.role.replace('_', ' ')} has no label {concept!r}."
            action = f"train a judge on this vocabulary, or name one in data.{self.role}."
            raise EvaluationError(what, stage="evaluate", action=action) from None

    def require(self, concepts: Sequence[str]) -> None:
        """Raises EvaluationError for the first concept without a label."""
        for concept in concepts:
            self.index(concept)

    @torch.inference_mode()
    def __call__(self, pixels: np.ndarray, batch_size: int = 256) -> Tensor:
        """Probabilities (B, L), float32 on the CPU, of uint8 pictures (B, H, W, 3)."""
        batches = (pixels[i : i + batch_size] for i in range(0, len(pixels), batch_size))
        return torch.cat([self.logits(x).softmax(-1).cpu() for x in batches])

    @torch.inference_mode()
    def logits(self, pixels: np.ndarray) -> Tensor:
        """(B, L), float32 on the device, of uint8 pictures (B, H, W, 3) in one batch."""
        out: Tensor = self.model(pixel_values=self.prepare(pixels).to(self.device)).logits
        return out.float()

    @torch.inference_mode()
    def with_features(self, pixels: np.ndarray, batch_size: int = 256) -> tuple[Tensor, Tensor]:
        """Probabilities (B, L), and the inputs of the last linear layer (B, D), both float32 on the CPU, of
        uint8 pictures (B, H, W, 3)."""
        parts: list[Tensor] = []
        handle = self.head.register_forward_pre_hook(
            lambda _, inputs: parts.append(inputs[0].flatten(1).float().cpu())
        )
        try:
            odds = self(pixels, batch_size)
        finally:
            handle.remove()
        return odds, torch.cat(parts)

    def features(self, pixels: np.ndarray, batch_size: int = 256) -> Tensor:
        """The second of `with_features`."""
        return self.with_features(pixels, batch_size)[1]


def _head(model: Any, where: str) -> nn.Module:
    """The linear layer that gives the logits. Raises BaseModelError when there is none."""
    labels = model.config.num_labels
    linear = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == labels]
    if not linear:
        what = f"{where} does not end in a linear layer, so it has no features to compare pictures by."
        raise BaseModelError(what, stage="judge", action="use a classifier with a linear head.")
    return linear[-1]
