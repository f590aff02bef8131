"""The self-test: what a loaded model puts out for a fixed input, as a few dozen numbers.

The same weights give the same numbers, up to the last digits, on every machine. Where they do not, a library,
a precision or a device computes something else, and pictures made there are no evidence about a version that
was made elsewhere (`fade.provenance.self_tests` compares). Ours.

Each part is a sample of its values, in units of their root mean square, and that root mean square: a tensor
of any size becomes ``PLACES + 1`` numbers, and a deviation means the same for every model."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fade.config import SamplerConfig
from fade.errors import BaseModelError
from fade.models.base import DiffusionModel
from fade.models.probe import is_finite
from fade.models.sampling import solve

PROMPT = "a cat"
SEED = 0
SAMPLER = SamplerConfig(scheduler="euler", steps=2, guidance_scale=4.0)
SIDE = 16
"""Elements a side of the latents at most: a large model is tested on a small picture."""
PLACES = 15
"""Values that are kept of each tensor, at equal distances."""
DIGITS = 6
"""Significant ones of each number."""
Numbers = dict[str, list[float]]
"""Part -> its numbers, for JSON."""


@torch.inference_mode()
def measure_model(model: DiffusionModel) -> Numbers:
    """``embedding``, ``latents`` and ``picture`` of one prompt, and ``pooled`` where the family has it. No
    random state is read, and the model's embeddings are left as they were. Raises BaseModelError for latents
    that are not finite."""
    with model.no_embeddings():
        cond, null = model.encode([PROMPT]), model.encode([SAMPLER.negative_prompt])
    channels, *sides = model.latent_shape
    shape = (channels, *(min(side, SIDE) for side in sides))
    latents = solve(model, cond, null, [SEED], SAMPLER, shape=shape)
    tensors = {"embedding": cond.tokens, "pooled": cond.pooled, "latents": latents}
    if not is_finite(latents):
        what = f"the latents of {PROMPT!r} by {model.path} are not finite."
        action = "name a precision in which the base works, or fetch it anew: its weights are broken."
        raise BaseModelError(what, stage="self-test", action=action)
    tensors["picture"] = torch.from_numpy(model.decode(latents)).float() / 255
    return {name: summary(one) for name, one in tensors.items() if one is not None}


@torch.inference_mode()
def measure_vision(vision: Any, output: Any) -> Numbers:
    """Of a CLIP or a classifier: ``output`` (uint8 pictures (B, H, W, 3) -> (B, D)) of one fixed picture of
    the size that it takes."""
    side = vision.prepare.size
    ramp = np.linspace(0, 255, side)
    across, down = np.meshgrid(ramp, ramp)
    picture = np.stack([across, down, 255 - (across + down) / 2], axis=-1).round().astype(np.uint8)
    return {"features": summary(output(picture[None]))}


def summary(values: Tensor) -> list[float]:
    """``PLACES`` values at equal distances over their root mean square, then that root mean square."""
    flat = values.float().flatten().cpu()
    size = float(flat.square().mean().sqrt()) or 1.0
    where = torch.linspace(0, len(flat) - 1, min(PLACES, len(flat))).round().long()
    return [float(f"{one:.{DIGITS}g}") for one in [*(flat[where] / size).tolist(), size]]
