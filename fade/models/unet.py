"""What the families with a UNet (Stable Diffusion 1.x, 2.x, XL) share: discrete times, noise or v."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from fade.models.base import DiffusionModel
from fade.models.capabilities import DDIM, NULL_PROMPT, TEXT_STATES
from fade.models.conditioning import Conditioning

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fade.config import SamplerConfig

EXAMPLE_SIDE, EXAMPLE_TOKENS = 16, 4
"""Elements and tokens of the largest example."""
_CROSS = ("attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0")
_DPM = {"use_karras_sigmas": False, "algorithm_type": "dpmsolver++", "solver_order": 2}
SOLVERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {"set_alpha_to_one": False, "clip_sample": False}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_ancestral": ("EulerAncestralDiscreteScheduler", {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", _DPM),
    "unipc": ("UniPCMultistepScheduler", {}),
}
"""sampler.scheduler -> class of diffusers, and what of its configuration is ours, not the base's:
latents are never clipped, and no solver but euler_ancestral draws noise."""


class UNetModel(DiffusionModel):
    """A UNet2DConditionModel on DDPM's schedule of ``num_train_timesteps`` times (n,), int64."""

    DENOISER: ClassVar[str] = "unet"
    BLOCKS: ClassVar[tuple[str, ...]] = ("Transformer2DModel",)
    KOHYA: ClassVar[str] = "lora_unet_"
    SOLVERS: ClassVar[tuple[str, ...]] = tuple(SOLVERS)
    ROLES: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "all": ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"),
        "self": tuple(name.replace("attn2", "attn1") for name in _CROSS),
        "cross": _CROSS,
        "text_kv": ("attn2.to_k", "attn2.to_v"),
        "text": ("attn2.to_k", "attn2.to_v"),
    }

    @abstractmethod
    def denoiser_inputs(self, cond: Conditioning) -> dict[str, Any]:
        """The keyword arguments of the UNet that a prompt becomes."""

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        size = self.denoiser.config.sample_size
        return (self.denoiser.config.in_channels, size, size)

    @property
    def capabilities(self) -> frozenset[str]:
        return frozenset({NULL_PROMPT, TEXT_STATES, DDIM})

    @property
    def _times(self) -> int:
        return int(self.scheduler.config.num_train_timesteps)

    @property
    def _predicts_v(self) -> bool:
        return bool(self.scheduler.config.prediction_type == "v_prediction")

    def call(self, network: Any, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        out: Tensor = network(x, t, **self.denoiser_inputs(cond)).sample
        return out

    def sample_times(self, n: int, generator: torch.Generator) -> Tensor:
        """Uniform, as these families were trained."""
        return torch.randint(self._times, (n,), generator=generator)

    def times_at(self, shares: Tensor) -> Tensor:
        # 1e-9: a share that was meant to be a whole time may be stored a little below it
        times: Tensor = (shares * self._times + 1e-9).long().clamp_max(self._times - 1)
        return times

    def add_noise(self, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise."""
        noisy: Tensor = self.scheduler.add_noise(clean, noise, t)
        return noisy

    def target(self, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """The noise, or v = sqrt(abar_t) noise - sqrt(1 - abar_t) x_0."""
        v: Tensor = self.scheduler.get_velocity(clean, noise, t) if self._predicts_v else noise
        return v

    def to_noise(self, prediction: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """The prediction itself, or of a v: sqrt(abar_t) v + sqrt(1 - abar_t) x_t."""
        if not self._predicts_v:
            return prediction
        kept = self.scheduler.alphas_cumprod.to(x.device)[t].to(x.dtype).view(-1, 1, 1, 1)
        noise: Tensor = kept.sqrt() * prediction + (1 - kept).sqrt() * x
        return noise

    def solver(self, sampler: SamplerConfig) -> Any:
        """The solver on the base's own noise schedule."""
        import diffusers

        name, extra = SOLVERS[sampler.scheduler]
        how = {"timestep_spacing": sampler.spacing, **extra}
        scheduler = getattr(diffusers, name).from_config(dict(self.scheduler.config), **how)
        scheduler.set_timesteps(sampler.steps, device=self.device)
        return scheduler

    def example(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Conditioning]:
        channels, side, _ = self.latent_shape
        side, width = min(side, EXAMPLE_SIDE), self.denoiser.config.cross_attention_dim
        x = torch.randn(1, channels, side, side, generator=generator)
        tokens = torch.randn(1, EXAMPLE_TOKENS, width, generator=generator)
        cond = self.example_conditioning(tokens, generator).to(self.device)
        t = torch.tensor([self._times // 2], device=self.device)
        return x.to(self.device), t, cond

    def example_conditioning(self, tokens: Tensor, generator: torch.Generator) -> Conditioning:
        """Random conditioning with these tokens (1, T, D)."""
        return Conditioning(tokens)
