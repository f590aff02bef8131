"""A CLIP as a judge: the concept whose prompt lies closest to a picture (Radford et al. 2021, zero-shot).
Ours is its use as a second opinion: it was not trained on the judge's pictures."""

from __future__ import annotations

from torch import Tensor

NAME = "CLIP zero-shot"
SCALE = 100.0
"""Of the cosines before the softmax: CLIP's own logit scale at the end of its training."""


def zero_shot(pictures: Tensor, texts: Tensor) -> Tensor:
    """Probabilities (n, L) of unit features of pictures (n, D) over those of the labels' prompts (L, D)."""
    return (SCALE * pictures @ texts.T).softmax(-1)
