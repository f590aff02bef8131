"""Kohya's names of layers, as ComfyUI, A1111 and diffusers read them: the denoiser's own with ``_`` for ``.``
behind the family's prefix (``lora_unet_down_blocks_0_attentions_0_proj_in``).

sd-scripts writes SDXL's in the original layout (``input_blocks_4_1_proj_in``), which is read, too."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from fade.models.base import DiffusionModel

_UNET = re.compile(
    r"(?P<part>down|mid|up)_blocks?\.(?:(?P<block>\d+)\.)?attentions\.(?P<one>\d+)\.(?P<rest>.+)"
)


def kohya_name(model: DiffusionModel, layer: str) -> str:
    """The name that a layer of the denoiser has in a file of kohya's."""
    return model.KOHYA + layer.replace(".", "_")


def matrices(model: DiffusionModel) -> list[str]:
    """The denoiser's Linear and Conv layers, whose weights a LoRA can change."""
    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    return [name for name, one in model.denoiser.named_modules() if isinstance(one, kinds)]


def kohya_layers(model: DiffusionModel) -> dict[str, str]:
    """Name in a file of kohya's -> name of the denoiser's Linear or Conv layer; empty for a family that has
    no such files."""
    if not model.KOHYA:
        return {}
    layers = matrices(model)
    names = {f"{model.KOHYA}{name}": layer for layer in layers if (name := _original(model, layer))}
    return {**names, **{kohya_name(model, layer): layer for layer in layers}}


def _original(model: DiffusionModel, layer: str) -> str:
    """An attention layer's name in the original layout of a UNet; "" for any other layer."""
    if not (match := _UNET.fullmatch(layer)):
        return ""
    rest, deep = match["rest"].replace(".", "_"), model.denoiser.config.layers_per_block
    if match["part"] == "mid":
        return f"middle_block_1_{rest}"
    if not isinstance(deep, int):
        return ""
    block, one = int(match["block"]), int(match["one"])
    if match["part"] == "down":
        return f"input_blocks_{block * (deep + 1) + one + 1}_1_{rest}"
    return f"output_blocks_{block * (deep + 1) + one}_1_{rest}"
