"""The judge's features are what its last layer reads, whatever the architecture."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fade.errors import BaseModelError
from fade.judges.classifier import Classifier, _head


def resnet() -> Any:
    from transformers import ResNetConfig, ResNetForImageClassification

    return ResNetForImageClassification(
        ResNetConfig(embedding_size=4, hidden_sizes=[4, 6], depths=[1, 1], layer_type="basic", num_labels=3)
    )


def vit() -> Any:
    from transformers import ViTConfig, ViTForImageClassification

    size = {
        "hidden_size": 6,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 6,
        "image_size": 16,
        "patch_size": 8,
    }
    return ViTForImageClassification(ViTConfig(**size, num_labels=3))


@pytest.mark.parametrize("make", [resnet, vit])
def test_the_head_on_the_features_gives_the_probabilities(make: Any, tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        make().save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"size": {"height": 16, "width": 16}}')
    judge = Classifier(str(tmp_path))
    pixels = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    features = judge.features(pixels, batch_size=2)
    assert features.shape == (5, 6) and features.dtype == torch.float32
    odds = (features @ judge.head.weight.T + judge.head.bias).softmax(-1)  # type: ignore[operator, union-attr]
    assert torch.allclose(odds, judge(pixels), atol=1e-5)
    assert torch.equal(judge(pixels), judge(pixels)) and not judge.head._forward_pre_hooks


def test_a_judge_without_a_linear_head_is_refused() -> None:
    model = nn.Sequential(nn.Conv2d(3, 7, 1), nn.Linear(7, 4))
    model.config = SimpleNamespace(num_labels=7)  # type: ignore[assignment]
    with pytest.raises(BaseModelError, match="data/judge does not end in a linear layer"):
        _head(model, "data/judge")
