"""A CLIP as a judge: the concept whose prompt lies closest to a picture (Radford et al. 2021, zero-shot).
Ours is its use as a second opinion: it was not trained on the judge's pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from fade.data.vocabulary import fill
from fade.judges.classifier import position
from fade.mining.image_encoder import ImageEncoder

SCALE = 100.0
"""Of the cosines before the softmax: CLIP's own logit scale at the end of its training."""


class ZeroShot:
    """Probabilities over ``labels`` without a classifier."""

    name = "CLIP zero-shot"

    def __init__(self, encoder: ImageEncoder, template: str, names: Sequence[str]) -> None:
        """template: the prompt of a concept, with ``{concept}``."""
        self.labels, self._encoder = list(names), encoder
        self._texts = encoder.text([fill(template, name) for name in names])

    def index(self, concept: str) -> int:
        """The label's position. Raises EvaluationError for a concept that is none of them."""
        return position(self.labels, concept, "the second opinion", "name it in the data set's manifest.")

    def __call__(self, pixels: np.ndarray) -> Tensor:
        """(B, L) float32 of uint8 pictures (B, H, W, 3)."""
        return (SCALE * self._encoder(pixels) @ self._texts.T).softmax(-1)
