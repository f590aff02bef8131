"""What of each family is supported, as rules over the parts' configurations. No torch.

A row of `RULES` a pipeline of diffusers: a model that a rule does not allow is refused by its name, before a
weight is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Configs = Mapping[str, Mapping[str, Any]]
"""Part -> its configuration."""
MAX_TOKENS = 10_000
"""What transformers puts in the place of a missing model_max_length is far larger."""
_DISCRETE = (
    *("DDIM", "DDPM", "PNDM", "LMSDiscrete", "EulerDiscrete", "EulerAncestralDiscrete", "HeunDiscrete"),
    *("DPMSolverMultistep", "DPMSolverSinglestep", "DPMSolverSDE", "UniPCMultistep", "DEISMultistep"),
    *("KDPM2Discrete", "KDPM2AncestralDiscrete"),
)
DISCRETE = tuple(f"{name}Scheduler" for name in _DISCRETE)
"""Schedulers whose configuration describes DDPM's noise schedule, whatever their own solver."""


@dataclass(frozen=True)
class Rule:
    """One key of a part's configuration may hold ``allowed`` alone."""

    part: str
    key: str
    allowed: tuple[Any, ...]
    what: str
    """What a model with another value is."""
    default: Any = None
    """The class's own value where the key is absent."""

    def fault(self, configs: Configs) -> str:
        value = configs[self.part].get(self.key, self.default)
        if value in self.allowed:
            return ""
        listed = ", ".join(map(str, self.allowed))
        supported = f"supported: {listed}" if self.allowed != (None,) else "supported: none"
        return f"{self.what} ({self.part}: {self.key} {str(value)[:80]}) is not supported; {supported}."


Check = Callable[[Configs], str]
"""The sentence on a model that is not supported; "" for one that is."""


def _square(part: str) -> Check:
    def check(configs: Configs) -> str:
        size = configs[part].get("sample_size")
        if isinstance(size, int) and not isinstance(size, bool) and size > 0:
            return ""
        what = f"{part}: sample_size {str(size)[:80]} is not supported"
        return f"{what}; supported: one number, square latents."

    return check


def _latent_channels(configs: Configs) -> str:
    latent = configs["vae"].get("latent_channels", 4)
    got, put = (configs["unet"].get(key, 4) for key in ("in_channels", "out_channels"))
    if got == put == latent:
        return ""
    kind = "an inpainting or other UNet that reads more than latents" if got != latent else "a UNet"
    what = f"{kind} with {got} channels in and {put} out, beside an autoencoder of {latent},"
    return f"{what} is not supported; supported: as many as the autoencoder has."


def _transformer_channels(default: int, packed: int) -> Check:
    """default: the class's in_channels; packed: elements of a latent that are one channel of it."""

    def check(configs: Configs) -> str:
        latent = configs["vae"].get("latent_channels", 4)
        got = configs["transformer"].get("in_channels", default)
        if got == latent * packed:
            return ""
        what = f"a transformer with {got} channels in, beside an autoencoder of {latent},"
        return f"{what} is not supported; supported: {latent * packed}."

    return check


def _zero_snr(configs: Configs) -> str:
    scheduler = configs["scheduler"]
    if not scheduler.get("rescale_betas_zero_snr") or scheduler.get("prediction_type") == "v_prediction":
        return ""
    return (
        "a zero-terminal-SNR schedule (scheduler: rescale_betas_zero_snr) with noise prediction is not "
        "supported: at its last time the noise says nothing; supported: with v_prediction."
    )


def _tokens(part: str) -> Check:
    def check(configs: Configs) -> str:
        n = configs[part].get("model_max_length")
        if isinstance(n, int) and 0 < n <= MAX_TOKENS:
            return ""
        what = f"{part}: model_max_length {str(n)[:80]} is not supported; supported: a number of tokens"
        return f"{what}, CLIP's is 77."

    return check


def _text_width(configs: Configs) -> str:
    width, reads = configs["text_encoder"].get("hidden_size"), configs["unet"].get("cross_attention_dim")
    if width is None or reads is None or width == reads:
        return ""
    what = f"a UNet whose cross-attention reads {str(reads)[:80]} numbers beside a text encoder of {width}"
    return f"{what} is not supported; supported: the same width."


def _unet(addition: str | None) -> tuple[Rule | Check, ...]:
    """Rules of a UNet on DDPM's schedule; addition: its addition_embed_type."""
    return (
        Rule("unet", "class_embed_type", (None,), "a UNet with class embeddings"),
        Rule("unet", "num_class_embeds", (None,), "a UNet with class embeddings"),
        Rule("unet", "time_cond_proj_dim", (None,), "a UNet with a guidance embedding (LCM)"),
        Rule("unet", "encoder_hid_dim_type", (None,), "a UNet with a projection of its own for the text"),
        Rule("unet", "addition_embed_type", (addition,), "a UNet with another embedding beside the time"),
        Rule("scheduler", "_class_name", DISCRETE, "a model with this scheduler", "DDPMScheduler"),
        Rule("scheduler", "prediction_type", ("epsilon", "v_prediction"), "another prediction", "epsilon"),
        Rule("scheduler", "use_flow_sigmas", (None, False), "a flow schedule beside a UNet"),
        Rule("scheduler", "timestep_type", (None, "discrete"), "a schedule of continuous times"),
        _latent_channels,
        _square("unet"),
        _zero_snr,
    )


_FLOW = (
    Rule(
        "scheduler",
        "_class_name",
        ("FlowMatchEulerDiscreteScheduler",),
        "a model with this scheduler",
        "FlowMatchEulerDiscreteScheduler",
    ),
    Rule("scheduler", "invert_sigmas", (None, False), "a schedule from the clean picture to the noise"),
    Rule("scheduler", "stochastic_sampling", (None, False), "a solver that draws noise at each step"),
)
_LATENTS_MEAN = Rule("vae", "latents_mean", (None,), "an autoencoder with a mean for each latent channel")
"""diffusers reads it for SDXL alone."""
_MASK = Rule("text_encoder", "use_attention_mask", (None, False), "a text encoder that reads a mask")
"""diffusers reads it for 1.x and 2.x alone."""
RULES: dict[str, tuple[Rule | Check, ...]] = {
    "StableDiffusionPipeline": (*_unet(None), _tokens("tokenizer"), _text_width, _MASK),
    "StableDiffusionXLPipeline": (
        *(*_unet("text_time"), _LATENTS_MEAN),
        *(_tokens("tokenizer"), _tokens("tokenizer_2")),
    ),
    "StableDiffusion3Pipeline": (
        *(*_FLOW, _transformer_channels(16, packed=1), _square("transformer")),
        *(_tokens("tokenizer"), _tokens("tokenizer_2")),
    ),
    "FluxPipeline": (*_FLOW, _transformer_channels(64, packed=4), _tokens("tokenizer")),
}
"""Pipeline -> what must hold of its parts' configurations."""


def unsupported(pipeline: str, configs: Configs) -> str:
    """The first thing of a model that is not supported, as a sentence; "" when all is."""
    for rule in RULES[pipeline]:
        if fault := rule.fault(configs) if isinstance(rule, Rule) else rule(configs):
            return fault
    return ""
