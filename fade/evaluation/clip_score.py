"""CLIP score: do pictures still show what was asked for, by the CLIP that belongs to the base?

    100 max(0, cos(image, text))

The form is Hessel et al.'s (2021) with 100 in place of their 2.5, as the libraries report it. A CLIP is a
judge of its own: the embedded one shares its text tower with the base, so its score is no independent
evidence of what is drawn, only of what it kept. Compare it between two models on the same prompts; its
absolute size depends on the CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from fade.mining.image_encoder import ImageEncoder


def clip_scores(images: Tensor, texts: Tensor) -> np.ndarray:
    """Score (n,) of unit features (n, D) of pictures and of their texts."""
    scores: np.ndarray = (100 * (images * texts).sum(-1)).clamp(min=0).numpy()
    return scores


def mean_clip_score(encoder: ImageEncoder, pictures: Sequence[np.ndarray], prompts: Sequence[str]) -> float:
    """Mean score of pictures, uint8 (n, H, W, 3) a prompt; at least one."""
    texts = encoder.text(prompts)
    counts = torch.tensor([len(p) for p in pictures])
    return float(clip_scores(encoder(np.concatenate(pictures)), texts.repeat_interleave(counts, 0)).mean())
