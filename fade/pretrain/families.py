"""The miniatures' families: of each the pipeline, its text encoders, its denoiser and its schedule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from diffusers import (
    DDIMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    UNet2DConditionModel,
)

from fade.config import DenoiserConfig

SIDE = 8
"""Width and height of a latent."""
TIME_WIDTH = 64
"""Of each of the six numbers that SDXL's UNet reads beside the prompt."""
_BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}


@dataclass(frozen=True)
class Widths:
    """Of what the denoiser reads."""

    latent: int
    """Channels of a latent."""
    tokens: int
    """Of a token's state."""
    pooled: int
    """Of the pooled vector; 0 where the family has none."""


@dataclass(frozen=True)
class Family:
    """One family. texts: part of its pipeline -> the stage that makes its text tower."""

    pipeline: str
    part: str
    """The denoiser's name in the pipeline."""
    stage: str
    """The stage that trains the denoiser; its settings' section too."""
    texts: Mapping[str, str]
    pooled: tuple[str, ...]
    """Text encoders, CLIPs all, whose projected vectors the denoiser reads, too."""
    denoiser: Callable[[DenoiserConfig, Widths], Any]
    scheduler: Callable[[], Any]
    index: Mapping[str, Any]
    """What else the pipeline's ``model_index.json`` holds."""
    begins_from: str = ""
    """Folder of a finished world's denoiser, whose weights this one begins with but for what reads the
    prompt; empty: a random start."""
    restarts: tuple[str, ...] = ()
    """The stages that train the denoiser once more, each from the one before; as ``stage``."""

    @property
    def last_stage(self) -> str:
        """The stage whose denoiser is the base's."""
        return [self.stage, *self.restarts][-1]


def _unet(config: DenoiserConfig, widths: Widths, **extra: Any) -> UNet2DConditionModel:
    """A transformer block at each resolution."""
    depth = len(config.channels)
    return UNet2DConditionModel(
        sample_size=SIDE,
        in_channels=widths.latent,
        out_channels=widths.latent,
        layers_per_block=1,
        block_out_channels=config.channels,
        down_block_types=("CrossAttnDownBlock2D",) * depth,
        up_block_types=("CrossAttnUpBlock2D",) * depth,
        cross_attention_dim=widths.tokens,
        attention_head_dim=config.heads,
        norm_num_groups=16,
        **extra,
    )


def _unet_xl(config: DenoiserConfig, widths: Widths) -> UNet2DConditionModel:
    return _unet(
        config,
        widths,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=TIME_WIDTH,
        projection_class_embeddings_input_dim=6 * TIME_WIDTH + widths.pooled,
    )


def _transformer(config: DenoiserConfig, widths: Widths) -> SD3Transformer2DModel:
    return SD3Transformer2DModel(
        sample_size=SIDE,
        patch_size=1,
        in_channels=widths.latent,
        out_channels=widths.latent,
        num_layers=config.layers,
        attention_head_dim=config.width // config.heads,
        num_attention_heads=config.heads,
        joint_attention_dim=widths.tokens,
        caption_projection_dim=config.width,
        pooled_projection_dim=widths.pooled,
        pos_embed_max_size=2 * SIDE,
        qk_norm="rms_norm",
    )


FAMILIES = {
    "sd": Family(
        "StableDiffusionPipeline",
        "unet",
        "unet",
        {"text_encoder": "text"},
        (),
        _unet,
        lambda: DDIMScheduler(
            **_BETAS, set_alpha_to_one=False, clip_sample=False, timestep_spacing="trailing"
        ),
        {
            "feature_extractor": [None, None],
            "image_encoder": [None, None],
            "requires_safety_checker": False,
            "safety_checker": [None, None],
        },
        restarts=("unet_restart", "unet_restart_2", "unet_restart_3"),
    ),
    "sdxl": Family(
        "StableDiffusionXLPipeline",
        "unet",
        "unet_xl",
        {"text_encoder": "text", "text_encoder_2": "text_2"},
        ("text_encoder_2",),
        _unet_xl,
        lambda: EulerDiscreteScheduler(**_BETAS, timestep_spacing="trailing"),
        {
            "feature_extractor": [None, None],
            "image_encoder": [None, None],
            "force_zeros_for_empty_prompt": True,
        },
        begins_from="base/unet",
    ),
    "sd3": Family(
        "StableDiffusion3Pipeline",
        "transformer",
        "transformer",
        {"text_encoder": "text", "text_encoder_2": "text_2", "text_encoder_3": "t5"},
        ("text_encoder", "text_encoder_2"),
        _transformer,
        lambda: FlowMatchEulerDiscreteScheduler(shift=1.0),
        {"feature_extractor": [None, None], "image_encoder": [None, None]},
    ),
}
"""By the name that `fade pretrain --family` takes."""
