"""Stable Diffusion XL: two CLIP text encoders, a pooled vector, the picture's size as an input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from fade.models.conditioning import Conditioning, TextPath
from fade.models.families import register
from fade.models.text import clip_states, token_ids
from fade.models.unet import UNetModel

TIME_IDS = 6
"""Numbers of ``time_ids``: original height and width, top and left of the crop, target height and width."""


@register("StableDiffusionXLPipeline")
class StableDiffusionXL(UNetModel):
    """A pipeline of the class StableDiffusionXLPipeline."""

    FAMILY: ClassVar[str] = "Stable Diffusion XL"

    def encode_batch(self, prompts: Sequence[str]) -> Conditioning:
        """Both encoders' states before the last layer, joined; pooled: the second's projection.

        The empty prompt is the null prompt: all zeros where ``force_zeros_for_empty_prompt`` holds, which is
        diffusers' default."""
        parts, states = self.parts, []
        for tail in ("", "_2"):
            ids = token_ids(parts[f"tokenizer{tail}"], prompts, self.device)
            state, pooled = clip_states(parts[f"text_encoder{tail}"], ids)
            states.append(state)
        size = self.image_size
        sizes = torch.tensor([[size, size, 0, 0, size, size]], dtype=torch.float32, device=self.device)
        tokens, time_ids = torch.cat(states, -1), sizes.expand(len(prompts), TIME_IDS)
        if self.index.get("force_zeros_for_empty_prompt", True):
            null = torch.tensor([not prompt for prompt in prompts], device=self.device)
            tokens, pooled = tokens.masked_fill(null[:, None, None], 0), pooled.masked_fill(null[:, None], 0)
        return Conditioning(tokens, pooled, {"time_ids": time_ids})

    @property
    def text_paths(self) -> Mapping[str, TextPath]:
        """The two encoders' states, side by side in each token, and the second's pooled vector."""
        first = self.parts["text_encoder"].config.hidden_size
        tokens = {"clip_1": TextPath(widths=slice(first)), "clip_2": TextPath(widths=slice(first, None))}
        return {**tokens, "pooled": TextPath(pooled=True)}

    def denoiser_inputs(self, cond: Conditioning) -> dict[str, Any]:
        added = {"text_embeds": cond.pooled, "time_ids": cond.extra["time_ids"]}
        return {"encoder_hidden_states": cond.tokens, "added_cond_kwargs": added}

    def example_conditioning(self, tokens: Tensor, generator: torch.Generator) -> Conditioning:
        config = self.denoiser.config
        width = config.projection_class_embeddings_input_dim - TIME_IDS * config.addition_time_embed_dim
        sizes = torch.full((1, TIME_IDS), float(self.image_size))
        return Conditioning(tokens, torch.randn(1, width, generator=generator), {"time_ids": sizes})
