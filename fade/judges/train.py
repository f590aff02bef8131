"""The judge: an image classifier that never saw the base nor its CLIP, trained on real drawings, augmented
and blurred."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import ResNetConfig, ResNetForImageClassification

from fade.config import JudgeConfig
from fade.judges.image_set import augment, colour_jitter, soften, to_unit
from fade.judges.supervised_loop import Logs, OnStep, fit


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
    """What the judge is trained and tested on: moved, scaled, lightly re-exposed, blurred, with a little
    noise."""
    x = augment(x, generator, shift=0.06, scale=(0.8, 1.08), angle=6)
    x = soften(colour_jitter(x, generator, 0.08), generator)
    return x + 0.06 * torch.rand(x.shape[0], 1, 1, 1, generator=generator) * torch.randn(
        x.shape, generator=generator
    )


def train(
    pixels: Tensor,
    names: Sequence[str],
    labels: Sequence[str],
    config: JudgeConfig,
    folder: Path,
    *,
    seed: int,
    on_step: OnStep,
    identity: dict[str, str] | None = None,
) -> ResNetForImageClassification:
    """Train on uint8 pictures (N, 64, 64, 3); labels equally often; cross-entropy with a smoothing of
    0.05."""
    torch.manual_seed(seed)
    model = build(config, labels)
    target = torch.tensor([list(labels).index(n) for n in names])
    shares = 1.0 / torch.bincount(target, minlength=len(labels)).float()[target]
    model.train()

    def loss_at(step: int, generator: torch.Generator) -> tuple[Tensor, Logs]:
        pick = torch.multinomial(shares, config.batch_size, replacement=True, generator=generator)
        logits = model(pixel_values=distort(to_unit(pixels[pick]), generator)).logits
        loss = F.cross_entropy(logits, target[pick], label_smoothing=0.05)
        return loss, {"top1": float((logits.argmax(1) == target[pick]).float().mean())}

    average = fit(model, loss_at, config, folder, seed=seed, identity=identity, on_step=on_step)
    model.load_state_dict(average, strict=False)  # batch-norm statistics are buffers
    model.eval().requires_grad_(False)
    _recalibrate(model, pixels, shares, config.batch_size, seed)
    return model


@torch.no_grad()
def _recalibrate(
    model: ResNetForImageClassification, pixels: Tensor, shares: Tensor, batch: int, seed: int
) -> None:
    """Batch-norm statistics of the averaged weights: the running ones belong to the last weights, not to
    their mean."""
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative mean
    model.train()
    generator = torch.Generator().manual_seed(seed + 1)
    for _ in range(50):
        pick = torch.multinomial(shares, batch, replacement=True, generator=generator)
        model(pixel_values=distort(to_unit(pixels[pick]), generator))
    for norm in norms:
        norm.momentum = 0.1
    model.eval()


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
    labels = model.config.label2id
    target = torch.tensor([labels[n] for n in names])
    generator = torch.Generator().manual_seed(seed)
    out = []
    for _ in range(max(views, 1)):
        for part, labels in zip(pixels.split(128), target.split(128), strict=True):
            x = to_unit(part)
            x = distort(x, generator) if views else x
            out.append((model(pixel_values=x).logits.argmax(1) == labels).float())
    return torch.cat(out)
