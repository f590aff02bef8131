"""Which layers of a UNet get an adapter, and a fixed input that shows its effect."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from fade.errors import AdapterError


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


def example_inputs(unet: nn.Module) -> dict[str, Any]:
    """A fixed small input of the UNet: x (1, C, s, s), t (1,), embeddings (1, 4, D)."""
    config: Any = unet.config
    first = next(unet.parameters())
    generator = torch.Generator().manual_seed(0)
    side = min(config.sample_size if isinstance(config.sample_size, int) else 64, 16)
    x = torch.randn(1, config.in_channels, side, side, generator=generator)
    embeds = torch.randn(1, 4, config.cross_attention_dim, generator=generator)
    return {
        "sample": x.to(first.device, first.dtype),
        "timestep": torch.tensor([500], device=first.device),
        "encoder_hidden_states": embeds.to(first.device, first.dtype),
    }
