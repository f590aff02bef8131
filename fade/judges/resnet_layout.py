"""The plain ResNets of torchvision and timm as transformers' network: the same tensors by other names.

Architecture: K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition" (CVPR 2016),
with the stride of a bottleneck in its 3x3 convolution, as in both libraries."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fade.errors import BaseModelError
from fade.models.part_files import HARMLESS

STAGE = "judge"
_BLOCK = re.compile(r"layer([1-4])\.(\d+)\.")
_STATISTICS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
"""Tensors of a batch norm."""
_HEAD = "fc.weight"
_NAMED = 3


@dataclass(frozen=True)
class Architecture:
    """A ResNet by its name in both libraries."""

    name: str
    layer_type: str
    """``basic``: two 3x3 convolutions a block; ``bottleneck``: 1x1, 3x3, 1x1."""
    depths: tuple[int, ...]
    """Blocks of each stage."""

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels that come out of each stage."""
        return (256, 512, 1024, 2048) if self.layer_type == "bottleneck" else (64, 128, 256, 512)


ARCHITECTURES = {
    one.name: one
    for one in (
        Architecture("resnet18", "basic", (2, 2, 2, 2)),
        Architecture("resnet34", "basic", (3, 4, 6, 3)),
        Architecture("resnet50", "bottleneck", (3, 4, 6, 3)),
        Architecture("resnet101", "bottleneck", (3, 4, 23, 3)),
        Architecture("resnet152", "bottleneck", (3, 8, 36, 3)),
    )
}


def supported() -> str:
    """The names, for a sentence."""
    return ", ".join(ARCHITECTURES)


def recognise(names: Collection[str], where: str) -> Architecture:
    """The architecture by the tensors' names. Raises BaseModelError for a network that is none of them."""
    blocks = [(int(found[1]), int(found[2])) for name in names if (found := _BLOCK.match(name))]
    depths = tuple(len({block for stage, block in blocks if stage == one}) for one in (1, 2, 3, 4))
    kind = "bottleneck" if "layer1.0.conv3.weight" in names else "basic"
    for one in ARCHITECTURES.values():
        if (one.layer_type, one.depths) == (kind, depths):
            return one
    if blocks:
        what = f"{where} holds a ResNet of {', '.join(map(str, depths))} {kind} blocks"
    else:
        what = f"{where} holds no tensor of a ResNet as torchvision and timm name them ({_sample(names)})"
    raise _fault(f"{what}; imported are {supported()}.", "name a file of one of them.")


def name_table(architecture: Architecture) -> dict[str, str]:
    """Every tensor's name in torchvision and timm -> its name in transformers, one to one."""
    table = {}

    def add(convolution: str, norm: str, layer: str) -> None:
        table[f"{convolution}.weight"] = f"{layer}.convolution.weight"
        table.update({f"{norm}.{one}": f"{layer}.normalization.{one}" for one in _STATISTICS})

    add("conv1", "bn1", "resnet.embedder.embedder")
    bottleneck = architecture.layer_type == "bottleneck"
    for stage, depth in enumerate(architecture.depths):
        for block in range(depth):
            theirs, ours = f"layer{stage + 1}.{block}", f"resnet.encoder.stages.{stage}.layers.{block}"
            for k in range(3 if bottleneck else 2):
                add(f"{theirs}.conv{k + 1}", f"{theirs}.bn{k + 1}", f"{ours}.layer.{k}")
            if block == 0 and (stage or bottleneck):
                add(f"{theirs}.downsample.0", f"{theirs}.downsample.1", f"{ours}.shortcut")
    return table | {"fc.weight": "classifier.1.weight", "fc.bias": "classifier.1.bias"}


def to_transformers(state: Mapping[str, Tensor], where: str) -> tuple[Any, Architecture]:
    """The network of the tensors ``state`` (names as in torchvision and timm) as transformers'
    ResNetForImageClassification, float32 on the CPU, frozen, in eval mode; and what it is.

    Raises BaseModelError that names a tensor which is missing, unknown, misshapen or in whole numbers."""
    architecture = recognise(state, where)
    table = name_table(architecture)
    if unknown := sorted(state.keys() - table.keys()):
        raise _fault(f"{where} holds {_sample(unknown)}, unknown to a plain {architecture.name}.")
    head = state.get(_HEAD)
    classes = len(head) if head is not None and head.ndim == 2 else 1
    model = build(architecture, classes)
    fill(model, {table[name]: tensor for name, tensor in state.items()}, where, architecture.name, table)
    return model, architecture


def build(architecture: Architecture, classes: int) -> Any:
    """The untrained network. No random state is left changed."""
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(
        embedding_size=64,
        hidden_sizes=list(architecture.widths),
        depths=list(architecture.depths),
        layer_type=architecture.layer_type,
        downsample_in_first_stage=False,
        downsample_in_bottleneck=False,
        num_labels=classes,
    )
    with torch.random.fork_rng(devices=[]):
        return ResNetForImageClassification(config).eval().requires_grad_(False)


@torch.no_grad()
def fill(
    model: nn.Module,
    state: Mapping[str, Tensor],
    where: str,
    kind: str,
    names: Mapping[str, str] | None = None,
) -> None:
    """Put tensors into a network, all or none. names: the file's name of a tensor -> the network's, for
    sentences. Raises BaseModelError that names a tensor which is missing, unknown, misshapen, in whole
    numbers where it is none, or not finite."""
    shown = {ours: theirs for theirs, ours in (names or {}).items()}
    own = model.state_dict()
    if unknown := sorted(state.keys() - own.keys()):
        raise _fault(f"{where} holds {_sample(unknown)}, unknown to {kind}.")
    lacking = [name for name in own if name not in state and not name.endswith(HARMLESS)]
    if missing := [shown.get(name, name) for name in lacking]:
        raise _fault(f"{where} lacks {_sample(missing)} of {kind}.")
    for name, tensor in state.items():
        if name.endswith(HARMLESS):
            continue
        if tensor.shape != own[name].shape:
            shapes = f"the shape {tuple(tensor.shape)}, {kind} takes {tuple(own[name].shape)}"
            raise _fault(f"{where}: {shown.get(name, name)} has {shapes}.")
        if own[name].is_floating_point() and not tensor.is_floating_point():
            raise _fault(f"{where}: {shown.get(name, name)} is in whole numbers ({tensor.dtype}).")
        if not bool(torch.isfinite(tensor).all()):
            raise _fault(f"{where}: {shown.get(name, name)} is not finite.")
    for name, tensor in state.items():
        if tensor.shape == own[name].shape:  # else it is a count, which means nothing
            own[name].copy_(tensor)


def _sample(names: Collection[str]) -> str:
    some = list(names)[:_NAMED]
    return ", ".join(some) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def _fault(what: str, action: str = "fetch the file anew, or name another one.") -> BaseModelError:
    return BaseModelError(what, stage=STAGE, action=action)
