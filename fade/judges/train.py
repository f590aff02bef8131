"""Training of the judge: an image classifier that never saw the base nor its CLIP, on augmented drawings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import ResNetConfig, ResNetForImageClassification

from fade.config import JudgeConfig
from fade.judges.image_set import augment, colour_jitter, soften, to_unit
from fade.judges.supervised_loop import Logs, Training, fit


def build(config: JudgeConfig, labels: Sequence[str]) -> ResNetForImageClassification:
    """An untrained ResNet over 64x64 pictures with the given label names."""
    depth = len(config.channels)
    return ResNetForImageClassification(
        ResNetConfig(
            embedding_size=config.channels[0],
            hidden_sizes=list(config.channels),
            depths=[1] + [2] * (depth - 1),
            layer_type="basic",
            downsample_in_first_stage=False,
            num_labels=len(labels),
            id2label=dict(enumerate(labels)),
            label2id={label: i for i, label in enumerate(labels)},
        )
    )


def distort(x: Tensor, generator: torch.Generator) -> Tensor:
    """Move, scale, re-expose lightly, blur, add a little noise: what the judge is trained and tested on."""
    x = augment(x, generator, shift=0.06, scale=(0.8, 1.08), angle=6)
    x = soften(colour_jitter(x, generator, 0.08), generator)
    strength = 0.06 * torch.rand(x.shape[0], 1, 1, 1, generator=generator)
    return x + strength * torch.randn(x.shape, generator=generator)


def train(
    pixels: Tensor,
    names: Sequence[str],
    labels: Sequence[str],
    config: JudgeConfig,
    training: Training,
) -> ResNetForImageClassification:
    """Train on uint8 pictures (N, 64, 64, 3), labels equally often, by cross-entropy smoothed by 0.05."""
    torch.manual_seed(training.seed)
    model = build(config, labels)
    target = torch.tensor([list(labels).index(n) for n in names])
    shares = 1.0 / torch.bincount(target, minlength=len(labels)).float()[target]
    model.train()

    def loss_at(step: int, generator: torch.Generator) -> tuple[Tensor, Logs]:
        pick = torch.multinomial(shares, config.batch_size, replacement=True, generator=generator)
        x, truth = distort(to_unit(pixels[pick]), generator)[training.share], target[pick][training.share]
        logits = model(pixel_values=x).logits
        loss = F.cross_entropy(logits, truth, label_smoothing=0.05)
        return loss, {"top1": float((logits.argmax(1) == truth).float().mean())}

    fit(model, loss_at, config, training)
    # The running batch-norm statistics belong to the last weights, not to their mean.
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative mean
    model.train()
    generator = torch.Generator().manual_seed(training.seed + 1)
    with torch.no_grad():
        for step in range(50):
            loss_at(step, generator)
    for norm in norms:
        norm.momentum = 0.1
    return model.eval()


def heldout_concepts(labels: Sequence[str]) -> set[str]:
    """The concepts whose drawings the judge of styles never sees."""
    return set(labels[::8])


@torch.no_grad()
def accuracy(
    model: ResNetForImageClassification,
    pixels: Tensor,
    names: Sequence[str],
    *,
    views: int = 0,
    seed: int = 0,
) -> Tensor:
    """1.0 where the top label is the name: (N,) on plain pictures, (views * N,) on distorted views."""
    target = torch.tensor([model.config.label2id[n] for n in names])
    generator = torch.Generator().manual_seed(seed)
    hits = []
    for _ in range(max(views, 1)):
        for part, labels in zip(pixels.split(128), target.split(128), strict=True):
            x = distort(to_unit(part), generator) if views else to_unit(part)
            hits.append((model(pixel_values=x).logits.argmax(1) == labels).float())
    return torch.cat(hits)
