"""Fixed small inputs that show what a loaded model puts out. A model whose output is not finite is refused
when it is loaded: later it would be black pictures and a loss that is no number."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fade.errors import BaseModelError
from fade.models.base import DiffusionModel


def gradient(channels: int, side: int) -> Tensor:
    """(1, channels, side, side) from -1 to 1."""
    return torch.linspace(-1, 1, channels * side * side).view(1, channels, side, side)


@torch.no_grad()
def infinite_part(model: DiffusionModel) -> str:
    """The first part of a model whose output is not finite; "" when all are. The model is on the CPU; no
    random state is read."""
    generator = torch.Generator().manual_seed(0)
    outputs: dict[str, Callable[[], Tensor]] = {
        **{name: partial(_text_states, part) for name, part in model.parts.items() if "encoder" in name},
        model.DENOISER: lambda: model.predict(*model.example(generator)),
        "vae": lambda: model.vae.decode(gradient(model.vae.config.latent_channels, 4)).sample,
    }
    return next((name for name, output in outputs.items() if not is_finite(output())), "")


def _text_states(encoder: Any) -> Tensor:
    states: Tensor = encoder(input_ids=torch.zeros(1, 2, dtype=torch.long)).last_hidden_state
    return states


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
