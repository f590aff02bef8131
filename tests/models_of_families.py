"""Miniature directories of every model family: the classes, keys and configurations of the real ones, some
thousand random weights each, built offline."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support import WORDS, tiny_tokenizer

TOKENS, T5_TOKENS = 16, 24
"""Tokens of a prompt that CLIP and T5 read (77, and 256 or 512, in the real ones)."""
_BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
_PNDM = {**_BETAS, "skip_prk_steps": True, "set_alpha_to_one": False, "steps_offset": 1, "clip_sample": False}


def _clip(*, projected: bool = False, width: int = 32, **config: Any) -> Any:
    """CLIP's text tower; ``projected``: with the projection of SDXL's and SD3's."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    size = {"hidden_size": width, "intermediate_size": 2 * width, "projection_dim": width}
    # eos_token_id 2 is what OpenAI's configurations hold: transformers then takes the largest id
    ids = {"vocab_size": 256, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    depth = {"num_hidden_layers": 3, "num_attention_heads": 4, "max_position_embeddings": TOKENS}
    kind = CLIPTextModelWithProjection if projected else CLIPTextModel
    return kind(CLIPTextConfig(**{**size, **ids, **depth, "hidden_act": "quick_gelu", **config}))


def _t5(width: int) -> Any:
    from transformers import T5Config, T5EncoderModel

    size = {"vocab_size": 64, "d_model": width, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
    kind = {"feed_forward_proj": "gated-gelu", "is_encoder_decoder": False, "use_cache": False}
    return T5EncoderModel(T5Config(**size, **kind))


def t5_tokenizer() -> Any:
    """A T5 tokenizer that knows WORDS and letters."""
    from transformers import T5TokenizerFast

    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    words = [(f"▁{word}", -1.0) for word in WORDS if len(word) > 1]
    letters = [(letter, -3.0) for letter in "abcdefghijklmnopqrstuvwxyz"]
    return T5TokenizerFast(vocab=[*special, *words, *letters], extra_ids=0, model_max_length=T5_TOKENS)


def _vae(**config: Any) -> Any:
    from diffusers import AutoencoderKL

    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    size = {"block_out_channels": (4, 4, 8, 8), "norm_num_groups": 2, "layers_per_block": 1}
    return AutoencoderKL(**{**blocks, **size, "latent_channels": 4, "sample_size": 64, **config})


def _unet(**config: Any) -> Any:
    from diffusers import UNet2DConditionModel

    blocks = {
        "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        "block_out_channels": (8, 8, 16, 16),
        "attention_head_dim": 8,
    }
    size = {"sample_size": 8, "layers_per_block": 1, "cross_attention_dim": 32, "norm_num_groups": 4}
    return UNet2DConditionModel(**{**blocks, **size, **config})


def _stable_diffusion(text: Any, tokenizer: Any, unet: Any, scheduler: Any) -> Any:
    from diffusers import StableDiffusionPipeline

    none = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    parts = {"text_encoder": text, "tokenizer": tokenizer, "unet": unet, "scheduler": scheduler}
    return StableDiffusionPipeline(vae=_vae(), **parts, **none)


def sd1() -> Any:
    """Stable Diffusion 1.5: noise, a PNDM configuration without prediction_type."""
    from diffusers import PNDMScheduler

    return _stable_diffusion(
        _clip(), tiny_tokenizer(max_tokens=TOKENS), _unet(), PNDMScheduler.from_config(_PNDM)
    )


def sd2(*, zero_snr: bool = False) -> Any:
    """Stable Diffusion 2.1: v, OpenCLIP's text tower, padding "!"; ``zero_snr``: its schedule ends in pure
    noise."""
    from diffusers import DDIMScheduler

    heads = {"attention_head_dim": [2, 2, 4, 4], "use_linear_projection": True, "upcast_attention": True}
    text = _clip(hidden_act="gelu", width=24, projection_dim=16)
    tokenizer = tiny_tokenizer(max_tokens=TOKENS, pad="!")
    kind = {**_PNDM, "prediction_type": "v_prediction"}
    if zero_snr:
        kind |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    return _stable_diffusion(
        text, tokenizer, _unet(cross_attention_dim=24, **heads), DDIMScheduler.from_config(kind)
    )


def sdxl() -> Any:
    """Stable Diffusion XL: two text encoders, no attention in the first block, Euler, leading."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

    unet = _unet(
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 8, 16),
        attention_head_dim=[2, 2, 4],
        transformer_layers_per_block=[1, 2, 3],
        cross_attention_dim=32 + 40,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 40,
    )
    return StableDiffusionXLPipeline(
        vae=_vae(scaling_factor=0.13025, force_upcast=True),
        text_encoder=_clip(),
        text_encoder_2=_clip(projected=True, width=40, hidden_act="gelu"),
        tokenizer=tiny_tokenizer(max_tokens=TOKENS),
        tokenizer_2=tiny_tokenizer(max_tokens=TOKENS, pad="!"),
        unet=unet,
        scheduler=EulerDiscreteScheduler.from_config({**_PNDM, "timestep_spacing": "leading"}),
        add_watermarker=False,
    )


def _vae_16(scaling: float, shift: float) -> Any:
    bare = {"use_quant_conv": False, "use_post_quant_conv": False, "force_upcast": True}
    return _vae(latent_channels=16, scaling_factor=scaling, shift_factor=shift, **bare)


def sd3(*, t5: bool = True, **transformer: Any) -> Any:
    """Stable Diffusion 3 medium, with or without T5."""
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

    size = {"sample_size": 8, "in_channels": 16, "num_layers": 3, "pos_embed_max_size": 12}
    heads = {"attention_head_dim": 8, "num_attention_heads": 2, "caption_projection_dim": 16}
    text = {"joint_attention_dim": 80, "pooled_projection_dim": 32 + 40}
    return StableDiffusion3Pipeline(
        vae=_vae_16(1.5305, 0.0609),
        text_encoder=_clip(projected=True),
        text_encoder_2=_clip(projected=True, width=40, hidden_act="gelu"),
        text_encoder_3=_t5(80) if t5 else None,
        tokenizer=tiny_tokenizer(max_tokens=TOKENS),
        tokenizer_2=tiny_tokenizer(max_tokens=TOKENS, pad="!"),
        tokenizer_3=t5_tokenizer() if t5 else None,
        transformer=SD3Transformer2DModel(**{**size, **heads, **text, **transformer}),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


def sd35() -> Any:
    """Stable Diffusion 3.5 medium: a second attention in the first blocks, normalised queries and keys."""
    return sd3(dual_attention_layers=(0, 1), qk_norm="rms_norm", pos_embed_max_size=24)


def flux(*, dev: bool = True) -> Any:
    """FLUX.1 dev (guidance as an input, dynamic shift) or schnell."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    shift = {"shift": 3.0, "use_dynamic_shifting": True} if dev else {"shift": 1.0}
    transformer = FluxTransformer2DModel(
        in_channels=64,
        num_layers=2,
        num_single_layers=3,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=48,
        pooled_projection_dim=32,
        guidance_embeds=dev,
        axes_dims_rope=(4, 6, 6),
    )
    return FluxPipeline(
        vae=_vae_16(0.3611, 0.1159),
        text_encoder=_clip(),
        text_encoder_2=_t5(48),
        tokenizer=tiny_tokenizer(max_tokens=TOKENS),
        tokenizer_2=t5_tokenizer(),
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(**shift),
    )


FAMILIES: dict[str, Callable[[], Any]] = {
    "sd1": sd1,
    "sd2": sd2,
    "zero-snr": lambda: sd2(zero_snr=True),
    "sdxl": sdxl,
    "sd3": sd3,
    "sd3-without-t5": lambda: sd3(t5=False),
    "sd35": sd35,
    "flux-dev": flux,
    "flux-schnell": lambda: flux(dev=False),
}
"""Every shape of a model, by name: makes diffusers' own pipeline with random weights."""
UNETS = ("sd1", "sd2", "zero-snr", "sdxl")
FLOWS = tuple(name for name in FAMILIES if name not in UNETS)


def make_family(folder: Path, name: str, seed: int = 0) -> Path:
    """Write the miniature of that name (safetensors only) to ``folder`` and return it."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipeline = FAMILIES[name]()
        for part in pipeline.components.values():
            if isinstance(part, torch.nn.Module):
                _wake(part)
        pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


def _wake(network: Any) -> None:
    """Give the layers that libraries start at zero, and small ones, random weights: an error in what they
    read would show nowhere."""
    import torch

    for parameter in network.parameters():
        if parameter.dim() > 1 and float(parameter.detach().std()) < 0.05:
            torch.nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
        elif parameter.dim() == 1 and not bool(parameter.any()):
            torch.nn.init.normal_(parameter, std=0.1)


def open_pipeline(folder: Path) -> Any:
    """diffusers' own pipeline of a miniature, as its users open it, its weights in aligned memory like ours:
    elsewhere equal weights may give other last bits."""
    import diffusers
    import torch

    from fade.models.placement import place

    index = json.loads((folder / "model_index.json").read_text())
    left_out = {key: None for key in ("text_encoder_3", "tokenizer_3") if index.get(key, [None])[0] is None}
    kind = getattr(diffusers, index["_class_name"])
    pipeline = kind.from_pretrained(folder, **(left_out if "3Pipeline" in index["_class_name"] else {}))
    pipeline.set_progress_bar_config(disable=True)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            place(part, "cpu")
    return pipeline
