"""Stable Diffusion 1.x and 2.x: one CLIP text encoder, noise or v prediction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from fade.models.base import Conditioning
from fade.models.families import register
from fade.models.unet import UNetModel


@register("StableDiffusionPipeline")
class StableDiffusion(UNetModel):
    """A pipeline of the class StableDiffusionPipeline."""

    FAMILY: ClassVar[str] = "Stable Diffusion"

    def encode_batch(self, prompts: Sequence[str]) -> Conditioning:
        encoder = self.parts["text_encoder"]
        size = {"max_length": self.tokenizer.model_max_length, "truncation": True}
        ids = self.tokenizer(list(prompts), padding="max_length", return_tensors="pt", **size)
        return Conditioning(encoder(input_ids=ids["input_ids"].to(self.device)).last_hidden_state)

    def denoiser_inputs(self, cond: Conditioning) -> dict[str, Any]:
        return {"encoder_hidden_states": cond.tokens}
