"""Stable Diffusion 3 and 3.5: two CLIP text encoders and T5, which may be left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from fade.models.conditioning import Conditioning, TextPath
from fade.models.families import register
from fade.models.flow import FlowModel
from fade.models.text import clip_states, token_ids

T5_TOKENS = 256
"""Tokens of the T5 text encoder's part of a prompt, diffusers' default."""


@register("StableDiffusion3Pipeline")
class StableDiffusion3(FlowModel):
    """A pipeline of the class StableDiffusion3Pipeline."""

    FAMILY: ClassVar[str] = "Stable Diffusion 3"
    BLOCKS: ClassVar[tuple[str, ...]] = ("JointTransformerBlock",)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        config = self.denoiser.config
        return (config.in_channels, config.sample_size, config.sample_size)

    @property
    def picture_tokens(self) -> int:
        return int((self.latent_shape[-1] // self.denoiser.config.patch_size) ** 2)

    def encode_batch(self, prompts: Sequence[str]) -> Conditioning:
        """Both CLIPs' states before the last layer, side by side and padded with zeros to the transformer's
        width, then T5's states as further tokens: zeros without T5. pooled: both CLIPs' projections."""
        length = self.tokenizer.model_max_length
        states, pooled = zip(*(self._clip(tail, prompts, length) for tail in ("", "_2")), strict=True)
        joined = torch.cat(states, -1)
        clip = F.pad(joined, (0, self.widths[0] - joined.shape[-1]))
        return Conditioning(torch.cat([clip, self._t5(prompts).to(clip.dtype)], 1), torch.cat(pooled, -1))

    @property
    def text_paths(self) -> Mapping[str, TextPath]:
        """Both CLIPs' tokens (their states side by side), T5's tokens after them, where there is a T5, and
        both CLIPs' pooled vectors."""
        length = self.tokenizer.model_max_length
        t5 = {"t5": TextPath(tokens=slice(length, None))} if "text_encoder_3" in self.parts else {}
        return {"clip": TextPath(tokens=slice(length)), **t5, "pooled": TextPath(pooled=True)}

    @property
    def token_blocks(self) -> Mapping[str, slice]:
        length = self.tokenizer.model_max_length
        t5 = {"tokenizer_3": slice(length, None)} if "text_encoder_3" in self.parts else {}
        return {"tokenizer": slice(0, length), **t5}

    def _clip(self, tail: str, prompts: Sequence[str], length: int) -> tuple[Tensor, Tensor]:
        ids = token_ids(self.parts[f"tokenizer{tail}"], prompts, self.device, length)
        return clip_states(self.parts[f"text_encoder{tail}"], ids)

    def _t5(self, prompts: Sequence[str]) -> Tensor:
        """(B, T, D) states of the third encoder."""
        if "text_encoder_3" not in self.parts:
            return torch.zeros(len(prompts), T5_TOKENS, self.widths[0], device=self.device)
        tokenizer = self.parts["tokenizer_3"]
        ids = token_ids(tokenizer, prompts, self.device, min(T5_TOKENS, tokenizer.model_max_length))
        states: Tensor = self.parts["text_encoder_3"](input_ids=ids).last_hidden_state
        return states

    def call(self, network: Any, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        text = {"encoder_hidden_states": cond.tokens, "pooled_projections": cond.pooled}
        velocity: Tensor = network(hidden_states=x, timestep=t, **text).sample
        return velocity
