"""What the families' text encoders share: prompts to token ids, CLIP's states before its last layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def token_ids(
    tokenizer: Any, prompts: Sequence[str], device: torch.device, length: int | None = None
) -> Tensor:
    """(B, ``length``) ids, int64, padded and cut; ``length``: the tokenizer's own when not given."""
    size = {"max_length": length or tokenizer.model_max_length, "padding": "max_length", "truncation": True}
    ids: Tensor = tokenizer(list(prompts), return_tensors="pt", **size)["input_ids"]
    return ids.to(device)


def clip_states(encoder: Any, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Of token ids (B, T): the states (B, T, D) that enter CLIP's last layer, and the first output: the
    projected vector (B, P) of a model with a projection."""
    out = encoder(input_ids=ids, output_hidden_states=True)
    return out.hidden_states[-2], out[0]
