"""Which layers of a UNet get an adapter, and the shapes of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from fade.errors import AdapterError
from fade.models.probe import is_finite

PREFIX = "unet."
"""Before the names of the UNet's modules in an adapter file, diffusers' own."""


def find_targets(unet: nn.Module, targets: tuple[str, ...]) -> list[str]:
    """Full names of every Linear and 1x1 Conv below a Transformer2DModel whose name ends in one of
    ``targets``. Raises AdapterError that names the target that matches nothing."""
    names: list[str] = []
    used: set[str] = set()
    blocks = [name for name, module in unet.named_modules() if type(module).__name__ == "Transformer2DModel"]
    for name, module in unet.named_modules():
        inside = any(name.startswith(f"{block}.") for block in blocks)
        one_by_one = isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1)
        if inside and (isinstance(module, nn.Linear) or one_by_one):
            hits = [target for target in targets if f".{name}".endswith(f".{target}")]
            names += [name] if hits else []
            used.update(hits)
    if missing := [target for target in targets if target not in used]:
        blocks_of = f"the UNet's {len(blocks)} transformer blocks"
        what = f"mesh.targets: {missing[0]!r} names no Linear or 1x1 Conv in {blocks_of}."
        raise AdapterError(what, stage="mesh", action="correct mesh.targets.")
    return names


def lora_shapes(unet: nn.Module, targets: tuple[str, ...], rank: int) -> dict[str, tuple[int, ...]]:
    """Name in the file -> shape of every weight that an adapter of ``rank`` has; nothing is allocated. Raises
    AdapterError, as `find_targets`."""
    layers, shapes = dict(unet.named_modules()), {}
    for name in find_targets(unet, targets):
        weight: Any = layers[name].weight
        wide, narrow, *kernel = weight.shape
        shapes[f"{PREFIX}{name}.lora_A.weight"] = (rank, narrow, *kernel)
        shapes[f"{PREFIX}{name}.lora_B.weight"] = (wide, rank, *kernel)
    return shapes


def check_shapes(needed: Mapping[str, tuple[int, ...]], state: Mapping[str, Tensor]) -> None:
    """Raises AdapterError for missing, unknown, misshapen or non-finite weights."""
    if differing := sorted(set(needed) ^ set(state)):
        what = (
            f"the adapter's layers do not fit this UNet: {differing[0]} and {len(differing) - 1} more differ."
        )
        action = "use the base and the mesh targets that it was trained with."
        raise AdapterError(what, stage="mesh", action=action)
    for name, shape in needed.items():
        if tuple(state[name].shape) != shape or not is_finite(state[name]):
            shapes = f"shape {tuple(state[name].shape)} where {shape} is needed"
            what = f"{name} has {shapes}, or is not finite."
            raise AdapterError(what, stage="mesh", action="use an intact adapter of this base.")
