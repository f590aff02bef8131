"""FLUX.1: CLIP's pooled vector and T5's states; guidance is distilled into the weights.

Flux dev takes the guidance scale as an input; schnell has none. The transformer works on 2x2 elements of a
latent as one token; outside of this file a latent stays (B, 16, h, w)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fade.models.capabilities import NULL_PROMPT
from fade.models.conditioning import Conditioning, TextPath
from fade.models.families import register
from fade.models.flow import FlowModel
from fade.models.text import token_ids

if TYPE_CHECKING:
    from fade.config import SamplerConfig

T5_TOKENS = {True: 512, False: 256}
"""Tokens of a prompt, by whether the guidance scale is an input: dev, schnell."""
_PATCH = 2
_SINGLE = ("proj_mlp", "proj_out")


@register("FluxPipeline")
class Flux(FlowModel):
    """A pipeline of the class FluxPipeline."""

    FAMILY: ClassVar[str] = "Flux"
    BLOCKS: ClassVar[tuple[str, ...]] = ("FluxTransformerBlock", "FluxSingleTransformerBlock")
    ROLES: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **FlowModel.ROLES,
        "all": (*FlowModel.ROLES["all"], *_SINGLE),  # the feed-forward layers of the single blocks
    }

    @property
    def takes_guidance(self) -> bool:
        """Whether the guidance scale is an input (dev)."""
        return bool(self.denoiser.config.guidance_embeds)

    @property
    def capabilities(self) -> frozenset[str]:
        """The null prompt of dev is the empty prompt at guidance 1."""
        return super().capabilities if self.takes_guidance else super().capabilities - {NULL_PROMPT}

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        side = self.vae.config.sample_size // self.vae_factor
        return (self.denoiser.config.in_channels // _PATCH**2, side, side)

    @property
    def picture_tokens(self) -> int:
        return (self.latent_shape[-1] // _PATCH) ** 2

    @property
    def text_paths(self) -> Mapping[str, TextPath]:
        """T5's tokens, and CLIP's pooled vector."""
        return {"t5": TextPath(), "pooled": TextPath(pooled=True)}

    @property
    def token_blocks(self) -> Mapping[str, slice]:
        return {"tokenizer_2": slice(0, None)}

    def encode_batch(self, prompts: Sequence[str]) -> Conditioning:
        pooled = self.parts["text_encoder"](token_ids(self.tokenizer, prompts, self.device)).pooler_output
        tokenizer = self.parts["tokenizer_2"]
        length = min(T5_TOKENS[self.takes_guidance], tokenizer.model_max_length)
        ids = token_ids(tokenizer, prompts, self.device, length)
        return Conditioning(self.parts["text_encoder_2"](input_ids=ids).last_hidden_state, pooled)

    def call(self, network: Any, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        guidance = None
        if self.takes_guidance:  # 1 in training: the velocity without guidance
            guidance = cond.extra.get("guidance", x.new_ones(len(x)))
        side = x.shape[-1] // _PATCH
        # (B, (h/2) (w/2), 4 C): the elements of a patch lie beside each other in a channel
        packed = F.pixel_unshuffle(x, _PATCH).flatten(2).transpose(1, 2)
        rows = torch.arange(side, dtype=torch.float32, device=x.device)
        places = torch.cartesian_prod(rows[:1], rows, rows)  # (tokens, 3): 0, row, column
        velocity = network(
            hidden_states=packed,
            encoder_hidden_states=cond.tokens,
            pooled_projections=cond.pooled,
            timestep=t / self._times,
            img_ids=places,
            txt_ids=places.new_zeros(cond.tokens.shape[1], 3),
            guidance=guidance,
        ).sample
        return F.pixel_shuffle(velocity.transpose(1, 2).unflatten(2, (side, side)), _PATCH)

    def predict_guided(
        self, x: Tensor, t: Tensor, cond: Conditioning, null: Conditioning, scale: float
    ) -> Tensor:
        """As `predict`; the scale is an input, and ``null`` is not read."""
        guidance = {"guidance": torch.full((len(x),), scale, device=x.device)}
        return self.predict(x, t, replace(cond, extra=guidance) if self.takes_guidance else cond)

    @classmethod
    def require_sampler(cls, sampler: SamplerConfig, path: str, denoiser: Mapping[str, Any]) -> None:
        """Raises UsageError, too, for a negative prompt and an interval of guidance, and without the guidance
        input for a guidance scale."""
        super().require_sampler(sampler, path, denoiser)
        why = f"{cls.FAMILY}'s guidance is distilled into the weights"
        if sampler.negative_prompt:
            raise cls._refusal("sampler.negative_prompt", path, f"{why}.", 'sampler.negative_prompt=""')
        if sampler.guidance_interval != (
            0.0,
            1.0,
        ):  # the input would be 1 outside, which no step was trained for
            key = "sampler.guidance_interval"
            raise cls._refusal(key, path, f"{why}.", "sampler.guidance_interval=[0,1]")
        if not denoiser.get("guidance_embeds", False) and sampler.guidance_scale != 1:
            scale, why = (
                f"sampler.guidance_scale {sampler.guidance_scale:g}",
                f"{why}, and no scale is an input.",
            )
            raise cls._refusal(scale, path, why, "sampler.guidance_scale=1")

    def solver_options(self, sampler: SamplerConfig) -> dict[str, Any]:
        """Evenly spaced shares of noise from 1 to 1 / steps, before the shift."""
        return {"sigmas": np.linspace(1.0, 1 / sampler.steps, sampler.steps)}
