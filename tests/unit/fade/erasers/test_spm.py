"""SPM's random embeddings."""

from __future__ import annotations

import torch

from fade.erasers.spm import random_embeddings


def test_random_embeddings_have_about_the_prompts_length_and_no_direction_of_their_own():
    e = torch.randn(1, 16, 32, generator=torch.Generator().manual_seed(1))
    embeddings = random_embeddings(e, 400, torch.Generator().manual_seed(0))
    length = torch.linalg.vector_norm(embeddings, dim=(1, 2)) / torch.linalg.vector_norm(e)
    assert 0.8 <= length.min() < 0.81 and 1.19 < length.max() <= 1.2
    assert (
        torch.cosine_similarity(embeddings.flatten(1), e.flatten(1)).mean().abs() < 0.01
    )  # 1 / sqrt(400 * 512) = 0.002 a deviation
