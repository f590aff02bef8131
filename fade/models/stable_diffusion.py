"""Stable Diffusion 1.x and 2.x: one CLIP text encoder, noise or v prediction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from fade.models.conditioning import Conditioning
from fade.models.families import register
from fade.models.text import token_ids
from fade.models.unet import UNetModel


@register("StableDiffusionPipeline")
class StableDiffusion(UNetModel):
    """A pipeline of the class StableDiffusionPipeline."""

    FAMILY: ClassVar[str] = "Stable Diffusion"

    def encode_batch(self, prompts: Sequence[str]) -> Conditioning:
        ids = token_ids(self.tokenizer, prompts, self.device)
        return Conditioning(self.parts["text_encoder"](input_ids=ids).last_hidden_state)

    def denoiser_inputs(self, cond: Conditioning) -> dict[str, Any]:
        return {"encoder_hidden_states": cond.tokens}
