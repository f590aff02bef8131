"""The second judge: its features are not the first one's. EfficientNet-Lite0, which photographs taught
(ImageNet), fine-tuned on the drawings of all packages.

The first judge never saw anything but drawings, and knows a drawing by an artist whom it did not see less
often than a person does. Features of photographs depend less on an artist's line and colour."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import EfficientNetConfig, EfficientNetForImageClassification

from fade.config import SecondJudgeConfig
from fade.errors import DataError
from fade.judges.image_set import augment, colour_jitter, fade_colours, soften, to_unit
from fade.judges.supervised_loop import Logs, Training, fit
from fade.pretrain.packages import package_folder

LEVELS, MIDDLE = 128.0, 127.0
"""The backbone reads (level - MIDDLE) / LEVELS of a colour's level of 255."""
OPEN = 30.0
"""Logit of a gate that is 1 in float32: Lite0 has no squeeze-and-excitation, transformers' class always."""
_NAMES = (
    (r"^_conv_stem\.", "embeddings.convolution."),
    (r"^_bn0\.", "embeddings.batchnorm."),
    (r"^_conv_head\.", "encoder.top_conv."),
    (r"^_bn1\.", "encoder.top_bn."),
    (r"^_blocks\.(\d+)\._expand_conv\.", r"encoder.blocks.\1.expansion.expand_conv."),
    (r"^_blocks\.(\d+)\._bn0\.", r"encoder.blocks.\1.expansion.expand_bn."),
    (r"^_blocks\.(\d+)\._depthwise_conv\.", r"encoder.blocks.\1.depthwise_conv.depthwise_conv."),
    (r"^_blocks\.(\d+)\._bn1\.", r"encoder.blocks.\1.depthwise_conv.depthwise_norm."),
    (r"^_blocks\.(\d+)\._project_conv\.", r"encoder.blocks.\1.projection.project_conv."),
    (r"^_blocks\.(\d+)\._bn2\.", r"encoder.blocks.\1.projection.project_bn."),
)
"""A tensor's name in the package -> its name in transformers' class."""


def load_weights(package: str) -> dict[str, Tensor]:
    """The backbone's tensors, of a package that holds them as one .pth file of tensors alone.

    Raises DataError when it is not installed (it is needed to rebuild the world only, not to use it)."""
    folder = package_folder(package, f"the weights of {package} are not installed.", "second")
    weights: dict[str, Tensor] = torch.load(next(folder.rglob("*.pth")), "cpu", weights_only=True)
    return weights


def build(labels: Sequence[str], side: int) -> EfficientNetForImageClassification:
    """An untrained Lite0 over pictures of ``side`` pixels: B0 with ReLU6, its gates open and frozen."""
    model = EfficientNetForImageClassification(
        EfficientNetConfig(
            image_size=side,
            width_coefficient=1.0,
            depth_coefficient=1.0,
            hidden_dim=1280,
            hidden_act="relu6",
            squeeze_expansion_ratio=1e-3,  # one channel, the fewest there can be
            batch_norm_eps=1e-3,
            num_labels=len(labels),
            id2label=dict(enumerate(labels)),
            label2id={label: i for i, label in enumerate(labels)},
        )
    )
    for name, parameter in model.named_parameters():
        if ".squeeze_excite." in name:
            torch.nn.init.constant_(parameter, OPEN if name.endswith("expand.bias") else 0.0)
            parameter.requires_grad_(False)
    return model


def renamed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The backbone's tensors by transformers' names; the classifier of photographs is left out."""
    out = {}
    for name, tensor in weights.items():
        for pattern, replacement in _NAMES:
            new, found = re.subn(pattern, replacement, name)
            if found:
                out[f"efficientnet.{new}"] = tensor
    return out


def load_backbone(model: EfficientNetForImageClassification, weights: dict[str, Tensor]) -> None:
    """Put the backbone's tensors into the model. Raises DataError for others than it has."""
    found, ours = renamed(weights), model.state_dict()
    kept = {name for name in ours if ".squeeze_excite." in name or name.startswith("classifier.")}
    shapes = {name: tensor.shape for name, tensor in found.items()}
    if shapes != {name: tensor.shape for name, tensor in ours.items() if name not in kept}:
        what = "the weights are not those of EfficientNet-Lite0."
        raise DataError(what, stage="second", action="name another package in pretrain.second.backbone.")
    model.load_state_dict(found, strict=False)


CYCLE_SEED = 1000
"""Between the seeds of two cycles."""
FADED = 0.6
"""Share of the pictures whose colours are drawn towards grey: the held-out artist's cats are grey."""


def distort(x: Tensor, generator: torch.Generator) -> Tensor:
    """Move, scale and turn, re-expose, fade and blur: more than the first judge's training does."""
    x = augment(x, generator, shift=0.08, scale=(0.7, 1.1), angle=8)
    x = fade_colours(x, generator, FADED)
    return soften(colour_jitter(x, generator, 0.3), generator)


def preprocessor(side: int) -> dict[str, Any]:
    """What makes a picture into `as_read`, as transformers' files name it."""
    return {
        "size": side,
        "image_mean": [MIDDLE / 255] * 3,
        "image_std": [LEVELS / 255] * 3,
        "do_resize": True,
        "do_normalize": True,
    }


def as_read(x: Tensor, side: int) -> Tensor:
    """Pictures (B, 3, H, W) in -1..1 as the backbone reads them, (B, 3, side, side)."""
    x = F.interpolate(x, size=side, mode="bicubic", align_corners=False).clamp(-1, 1)
    return ((x + 1) * 127.5 - MIDDLE) / LEVELS


def train(
    model: EfficientNetForImageClassification,
    pixels: Tensor,
    names: Sequence[str],
    shares: Tensor,
    config: SecondJudgeConfig,
    training: Training,
) -> None:
    """Fine-tune on uint8 pictures (N, 64, 64, 3) in place, each sampled by its share, by cross-entropy
    smoothed by 0.1. The batch norms keep the photographs' statistics: drawings on white have others at every
    batch.

    The weights of every cycle of the rate are averaged (stochastic weight averaging, arXiv 1803.05407): on
    drawings by an artist whom it never saw, single ends differed by as much as they gained by more steps."""
    target = torch.tensor([model.config.label2id[name] for name in names])
    model.eval()

    def loss_at(step: int, generator: torch.Generator) -> tuple[Tensor, Logs]:
        pick = torch.multinomial(shares, config.batch_size, replacement=True, generator=generator)
        x = as_read(distort(to_unit(pixels[pick]), generator), config.side)
        logits = model(pixel_values=x).logits
        loss = F.cross_entropy(logits, target[pick], label_smoothing=0.1)
        return loss, {"top1": float((logits.argmax(1) == target[pick]).float().mean())}

    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    ends = []
    for cycle in range(1 + config.restarts):
        for weight in weights.values():
            weight.requires_grad_(True)
        ends.append(fit(model, loss_at, config, _cycle(training, cycle, config)))
    model.load_state_dict(
        {name: torch.stack([end[name] for end in ends]).mean(0) for name in weights}, strict=False
    )


def _cycle(training: Training, cycle: int, config: SecondJudgeConfig) -> Training:
    """One cycle's part of the training: its own folder and seed; progress over all of them."""

    def on_step(step: int, steps: int, logs: Logs) -> None:
        training.on_step(cycle * steps + step, (1 + config.restarts) * steps, logs)

    folder, seed = training.folder / f"cycle_{cycle}", training.seed + cycle * CYCLE_SEED
    return replace(training, folder=folder, seed=seed, on_step=on_step)


def keep_labels(model: EfficientNetForImageClassification, labels: Sequence[str]) -> None:
    """Leave in the classifier the rows of ``labels`` alone, in their order."""
    rows = torch.tensor([model.config.label2id[label] for label in labels])
    old = model.classifier
    model.classifier = torch.nn.Linear(old.in_features, len(labels))
    with torch.no_grad():
        model.classifier.weight.copy_(old.weight[rows])
        model.classifier.bias.copy_(old.bias[rows])
    model.config.num_labels = len(labels)
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {label: i for i, label in enumerate(labels)}
    model.num_labels = len(labels)
