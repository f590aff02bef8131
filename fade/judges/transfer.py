"""A pretrained classifier taught other classes: a linear head on its features, or the whole network.

In both the batch norms keep the statistics of the pretraining: a batch of a small set has others each
time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fade.config import FitConfig
from fade.errors import BaseModelError
from fade.judges.image_set import to_unit
from fade.judges.labelled_pictures import LabelledPictures
from fade.judges.preparation import Preparation
from fade.judges.supervised_loop import Logs, Training, fit
from fade.judges.train import distort

STAGE = "judge"
CHUNK = 256
"""Pictures whose features are one file: what a stopped command does again at most."""
SMOOTHING = 0.1
"""Of the labels, in both trainings."""
LEAST_SPREAD = 0.1
"""Of a feature, in units of the mean spread: one that hardly varies is not blown up."""
OnPictures = Callable[[int, int], None]
"""Arguments: pictures done, and in all."""


def head_of(model: nn.Module) -> tuple[nn.Module, str, nn.Linear]:
    """The last linear layer that gives the logits, with the module that holds it and its name there. Raises
    BaseModelError when there is none."""
    classes = getattr(model, "config").num_labels  # noqa: B009  nn.Module declares no config
    found = [
        (path, one)
        for path, one in model.named_modules()
        if isinstance(one, nn.Linear) and one.out_features == classes
    ]
    if not found:
        what = "the network does not end in a linear layer, so there is no head to put another in place of."
        raise BaseModelError(what, stage=STAGE, action="name another classifier with --from.")
    path, linear = found[-1]
    parent, _, name = path.rpartition(".")
    return model.get_submodule(parent), name, linear


def put_head(model: Any, weight: Tensor, bias: Tensor) -> None:
    """Give the classifier the head (classes, D), (classes,), in the place of its own."""
    parent, name, old = head_of(model)
    head = nn.Linear(old.in_features, len(bias)).to(old.weight.device)
    with torch.no_grad():
        head.weight.copy_(weight)
        head.bias.copy_(bias)
    setattr(parent, name, head)
    model.config.num_labels = len(bias)
    model.num_labels = len(bias)


def network_input(pixels: np.ndarray | Tensor, preparation: Preparation, device: Any) -> Tensor:
    """uint8 (B, S, S, 3) -> float32 (B, 3, S, S), as the network reads it."""
    x = torch.as_tensor(pixels).to(device).permute(0, 3, 1, 2).float() / 255
    return _normalised(x, preparation)


def _normalised(x: Tensor, preparation: Preparation) -> Tensor:
    """Levels from 0 to 1, (B, 3, S, S)."""
    mean, std = (
        torch.tensor(one, device=x.device).view(1, 3, 1, 1) for one in (preparation.mean, preparation.std)
    )
    return (x - mean) / std


@torch.no_grad()
def cached_features(
    model: Any,
    pictures: LabelledPictures,
    preparation: Preparation,
    folder: Path,
    key: str,
    batch: int,
    *,
    plain: bool,
    on_pictures: OnPictures = lambda done, total: None,
) -> Tensor:
    """What the head of the frozen network reads, (N, D) float32 on the CPU, of all pictures in their order.

    Each CHUNK is a file of ``folder``; one of the same ``key`` is not made again. plain: squares, not cut."""
    folder.mkdir(parents=True, exist_ok=True)
    device = next(model.parameters()).device
    _, _, head = head_of(model)
    inputs: list[Tensor] = []
    handle = head.register_forward_pre_hook(lambda _, given: inputs.append(given[0].flatten(1).float().cpu()))
    parts = []
    try:
        for start in range(0, len(pictures), CHUNK):
            file, end = folder / f"{start:07d}.safetensors", min(start + CHUNK, len(pictures))
            if _key_of(file) != key:
                inputs.clear()
                for first in range(start, end, batch):
                    rows = range(first, min(first + batch, end))
                    pixels = pictures.load(rows, lambda one: preparation.cut(one, whole=plain))
                    model(pixel_values=network_input(pixels, preparation, device))
                    on_pictures(rows[-1] + 1, len(pictures))
                part = file.with_suffix(".part")
                save_file({"features": torch.cat(inputs)}, part, metadata={"key": key})
                part.replace(file)
            parts.append(load_file(file)["features"])
            on_pictures(end, len(pictures))
    finally:
        handle.remove()
    return torch.cat(parts)


def _key_of(file: Path) -> str:
    try:
        with safe_open(file, "pt") as opened:
            return str((opened.metadata() or {}).get("key", ""))
    except (OSError, SafetensorError):
        return ""


def shares_of(targets: Tensor) -> Tensor:
    """(N,): the weight of each picture, so that every label is sampled equally often."""
    return 1.0 / torch.bincount(targets).float()[targets]


def train_head(
    features: Tensor, targets: Tensor, classes: int, config: FitConfig, training: Training
) -> tuple[Tensor, Tensor]:
    """A linear head (classes, D), (classes,) by cross-entropy on features (N, D) of the training pictures.

    It is trained on features of mean 0 and spread 1, from zero; what is returned reads them as they are."""
    mean, std = features.mean(0), features.std(0, correction=0)
    spread = std.clamp_min(LEAST_SPREAD * float(std.mean())).clamp_min(1e-6)
    x, shares = (features - mean) / spread, shares_of(targets)
    head = nn.Linear(features.shape[1], classes)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)

    def loss_at(step: int, generator: torch.Generator) -> tuple[Tensor, Logs]:
        pick = torch.multinomial(shares, config.batch_size, replacement=True, generator=generator)
        logits = head(x[pick])
        loss = F.cross_entropy(logits, targets[pick], label_smoothing=SMOOTHING)
        return loss, {"top1": float((logits.argmax(1) == targets[pick]).float().mean())}

    fit(head, loss_at, config, training)
    with torch.no_grad():
        weight = head.weight / spread
        return weight, head.bias - weight @ mean


def train_whole(
    model: Any,
    squares: np.ndarray,
    targets: Tensor,
    preparation: Preparation,
    config: FitConfig,
    training: Training,
    *,
    plain: bool,
) -> None:
    """Train the classifier, whose head is the new one, in place. squares: uint8 (N, R, R, 3), may lie in a
    file. Photographs are cut at random and mirrored; plain squares are moved, scaled, re-exposed and blurred,
    and not mirrored: a moon's side is its name."""
    shares, side = shares_of(targets), preparation.crop
    device = next(model.parameters()).device
    model.requires_grad_(True)
    model.eval()

    def loss_at(step: int, generator: torch.Generator) -> tuple[Tensor, Logs]:
        pick = torch.multinomial(shares, config.batch_size, replacement=True, generator=generator)
        pixels = torch.from_numpy(np.stack([squares[i] for i in pick.tolist()]))
        if plain:
            x = (distort(to_unit(pixels), generator)[training.share].clamp(-1, 1) + 1) / 2
            x = _normalised(x.to(device), preparation)
        else:
            x = network_input(_cut_at_random(pixels, side, generator)[training.share], preparation, device)
        logits = model(pixel_values=x).logits
        truth = targets[pick][training.share].to(device)
        loss = F.cross_entropy(logits, truth, label_smoothing=SMOOTHING)
        return loss, {"top1": float((logits.argmax(1) == truth).float().mean())}

    fit(model, loss_at, config, training)


def _cut_at_random(pixels: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """uint8 (B, R, R, 3) -> (B, side, side, 3), each from a place of its own, every other mirrored."""
    room = pixels.shape[1] - side
    places = torch.randint(0, room + 1, (len(pixels), 2), generator=generator).tolist()
    flips = torch.rand(len(pixels), generator=generator).tolist()
    out = []
    for one, (top, left), flip in zip(pixels, places, flips, strict=True):
        cut = one[top : top + side, left : left + side]
        out.append(cut.flip(1) if flip < 0.5 else cut)
    return torch.stack(out)
