"""A ResNet written from the published architecture (He et al., CVPR 2016; stride in a bottleneck's 3x3
convolution), as tensors by the names of torchvision and timm and a literal forward pass. It shares nothing
with transformers'."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

DEPTHS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}
EPS = 1e-5
State = dict[str, Tensor]


def random_state(name: str, classes: int, seed: int = 0) -> State:
    """Random weights and random statistics; variances from 0.5 to 1.5."""
    generator = torch.Generator().manual_seed(seed)
    state: State = {}

    def convolution(key: str, out: int, into: int, side: int) -> None:
        scale = (2 / (into * side * side)) ** 0.5
        state[f"{key}.weight"] = scale * torch.randn(out, into, side, side, generator=generator)

    def norm(key: str, width: int) -> None:
        state[f"{key}.weight"] = 0.5 + 0.5 * torch.rand(width, generator=generator)
        state[f"{key}.bias"] = 0.1 * torch.randn(width, generator=generator)
        state[f"{key}.running_mean"] = 0.1 * torch.randn(width, generator=generator)
        state[f"{key}.running_var"] = 0.5 + torch.rand(width, generator=generator)
        state[f"{key}.num_batches_tracked"] = torch.tensor(7)

    convolution("conv1", 64, 3, 7)
    norm("bn1", 64)
    expansion = 4 if name == "resnet50" else 1
    into = 64
    for stage, depth in enumerate(DEPTHS[name]):
        width = 64 * 2**stage
        out = width * expansion
        for block in range(depth):
            key = f"layer{stage + 1}.{block}"
            shapes = [(width, into, 1), (width, width, 3), (out, width, 1)]
            if expansion == 1:
                shapes = [(width, into, 3), (width, width, 3)]
            for k, (wide, narrow, side) in enumerate(shapes, 1):
                convolution(f"{key}.conv{k}", wide, narrow, side)
                norm(f"{key}.bn{k}", wide)
            if block == 0 and into != out:
                convolution(f"{key}.downsample.0", out, into, 1)
                norm(f"{key}.downsample.1", out)
            into = out
    state["fc.weight"] = 0.05 * torch.randn(classes, into, generator=generator)
    state["fc.bias"] = 0.05 * torch.randn(classes, generator=generator)
    return state


@torch.no_grad()
def forward(state: State, name: str, x: Tensor) -> Tensor:
    """Logits (B, classes) of pictures (B, 3, H, W)."""

    def norm(x: Tensor, key: str) -> Tensor:
        mean, variance = state[f"{key}.running_mean"], state[f"{key}.running_var"]
        weight, bias = state[f"{key}.weight"], state[f"{key}.bias"]
        return F.batch_norm(x, mean, variance, weight, bias, training=False, eps=EPS)

    x = F.conv2d(x, state["conv1.weight"], stride=2, padding=3)
    x = F.max_pool2d(F.relu(norm(x, "bn1")), 3, stride=2, padding=1)
    for stage, depth in enumerate(DEPTHS[name]):
        for block in range(depth):
            key = f"layer{stage + 1}.{block}"
            stride = 2 if stage and block == 0 else 1
            shortcut = x
            if f"{key}.downsample.0.weight" in state:
                shortcut = F.conv2d(x, state[f"{key}.downsample.0.weight"], stride=stride)
                shortcut = norm(shortcut, f"{key}.downsample.1")
            if name == "resnet50":
                y = F.relu(norm(F.conv2d(x, state[f"{key}.conv1.weight"]), f"{key}.bn1"))
                y = F.conv2d(y, state[f"{key}.conv2.weight"], stride=stride, padding=1)
                y = F.relu(norm(y, f"{key}.bn2"))
                y = norm(F.conv2d(y, state[f"{key}.conv3.weight"]), f"{key}.bn3")
            else:
                y = F.conv2d(x, state[f"{key}.conv1.weight"], stride=stride, padding=1)
                y = F.relu(norm(y, f"{key}.bn1"))
                y = norm(F.conv2d(y, state[f"{key}.conv2.weight"], padding=1), f"{key}.bn2")
            x = F.relu(y + shortcut)
    return F.linear(F.adaptive_avg_pool2d(x, 1).flatten(1), state["fc.weight"], state["fc.bias"])
