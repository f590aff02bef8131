"""The layers of a denoiser that an adapter may sit on."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


def adaptable_layers(network: nn.Module, blocks: Sequence[str], outside: Sequence[str] = ()) -> list[str]:
    """Names of the Linear and 1x1 Conv layers below modules of the classes ``blocks``, and of the layers
    ``outside`` of them, in the network's order."""
    homes = tuple(
        f"{name}." if name else "" for name, one in network.named_modules() if type(one).__name__ in blocks
    )
    return [
        name
        for name, one in network.named_modules()
        if name in outside or (name.startswith(homes or ("\0",)) and _is_matrix(one))
    ]


def _is_matrix(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Conv2d):
        return layer.kernel_size == (1, 1)
    return isinstance(layer, nn.Linear)
