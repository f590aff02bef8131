"""How many rows a call of a model takes, and where its text encoders are meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Batches:
    """Rows of one call at most. `fade.models.memory` lowers them for a base that needs it; which rows share a
    call decides a result's last bits."""

    sample: int = 1 << 20
    """Pictures that are sampled at once; sampler.batch_size is no more in practice."""
    predict: int = 256
    """Latents of a prediction without gradients."""
    decode: int = 64
    """Latents that become pictures at once."""
    encode: int = 64
    """Pictures that become latents at once."""
    prompts: int = 256
    """Prompts of one call of a text encoder."""
    beside: int = 0
    """Bytes of other models on the device, which the plan of a training counts, too."""


def text_encoders(parts: Mapping[str, Any]) -> list[torch.nn.Module]:
    """Those of a model's parts."""
    return [part for name, part in parts.items() if name.startswith("text_encoder")]


@contextmanager
def on_device(
    parts: Sequence[torch.nn.Module], device: torch.device, home: torch.device | None
) -> Iterator[None]:
    """Inside, the parts are on the device, afterwards at ``home`` again; None: they stay where they are."""
    if home is None:
        yield
        return
    try:
        for part in parts:
            part.to(device)
        yield
    finally:
        for part in parts:
            part.to(home)
