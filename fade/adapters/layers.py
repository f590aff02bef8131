"""The shapes of an adapter's weights, by the layers of a model that its targets name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from fade.errors import AdapterError
from fade.models.probe import is_finite

if TYPE_CHECKING:
    from fade.models.base import DiffusionModel


def lora_shapes(model: DiffusionModel, targets: tuple[str, ...], rank: int) -> dict[str, tuple[int, ...]]:
    """Name in the file -> shape of every weight that an adapter of ``rank`` has; nothing is allocated. Raises
    AdapterError, as `DiffusionModel.layers`."""
    layers, shapes = dict(model.denoiser.named_modules()), {}
    for name in model.layers(targets):
        weight: Any = layers[name].weight
        wide, narrow, *kernel = weight.shape
        shapes[f"{model.DENOISER}.{name}.lora_A.weight"] = (rank, narrow, *kernel)
        shapes[f"{model.DENOISER}.{name}.lora_B.weight"] = (wide, rank, *kernel)
    return shapes


def check_shapes(needed: Mapping[str, tuple[int, ...]], state: Mapping[str, Tensor]) -> None:
    """Raises AdapterError for missing, unknown, misshapen or non-finite weights."""
    if differing := sorted(set(needed) ^ set(state)):
        what = (
            f"the adapter's layers do not fit this base: {differing[0]} and {len(differing) - 1} more differ."
        )
        action = "use the base and the mesh targets that it was trained with."
        raise AdapterError(what, stage="mesh", action=action)
    for name, shape in needed.items():
        if tuple(state[name].shape) != shape or not is_finite(state[name]):
            shapes = f"shape {tuple(state[name].shape)} where {shape} is needed"
            what = f"{name} has {shapes}, or is not finite."
            raise AdapterError(what, stage="mesh", action="use an intact adapter of this base.")
