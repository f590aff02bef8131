"""Fixed small inputs that show what a loaded model puts out. A model whose output is not finite is refused
when it is loaded: later it would be black pictures and a loss that is no number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fade.errors import BaseModelError


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


def gradient(channels: int, side: int) -> Tensor:
    """(1, channels, side, side) from -1 to 1."""
    return torch.linspace(-1, 1, channels * side * side).view(1, channels, side, side)


@torch.no_grad()
def infinite_part(parts: dict[str, Any]) -> str:
    """The first part of a Stable Diffusion (``text_encoder``, ``unet``, ``vae``) whose output is not finite;
    "" when all are. The parts are on the CPU; no random state is read."""
    text, unet, vae = parts["text_encoder"], parts["unet"], parts["vae"]
    outputs: dict[str, Callable[[], Tensor]] = {
        "text_encoder": lambda: text(input_ids=torch.zeros(1, 2, dtype=torch.long)).last_hidden_state,
        "unet": lambda: unet(**example_inputs(unet)).sample,
        "vae": lambda: vae.decode(gradient(vae.config.latent_channels, 4)).sample,
    }
    return next((name for name, output in outputs.items() if not is_finite(output())), "")


@torch.no_grad()
def check_output(model: Any, side: int, where: str, stage: str) -> None:
    """One picture of ``side`` pixels through a classifier or a CLIP on the CPU. Raises BaseModelError when
    the output is not finite, or the model takes no such picture."""

    tower = getattr(model, "get_image_features", model)
    try:
        output = tower(pixel_values=gradient(3, side))
    except Exception as error:  # torch and transformers raise many kinds
        what = f"{where} takes no picture of {side} pixels: {' '.join(str(error).split())[:200]}."
        raise BaseModelError(what, stage=stage, action="compare it with a model that loads.") from error
    values = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    if not is_finite(output.pooler_output if values is None else values):
        action = "fetch the model anew: its weights are broken."
        raise BaseModelError(f"{where}: its output is not finite.", stage=stage, action=action)


def is_finite(values: Tensor) -> bool:
    """Whether no value is NaN or infinite."""
    return bool(torch.isfinite(values).all())
