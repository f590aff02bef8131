"""What the families with a flow-matching transformer (Stable Diffusion 3, Flux) share: continuous times and
a velocity.

A time t in [0, 1000] is s * 1000, s being the share of noise: x_t = (1 - s) x_0 + s noise. The network puts
out the velocity dx_t / ds = noise - x_0."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from fade.models.base import DiffusionModel
from fade.models.capabilities import NULL_PROMPT, TEXT_STATES
from fade.models.conditioning import Conditioning

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fade.config import SamplerConfig

EXAMPLE_SIDE, EXAMPLE_TOKENS = 16, 4
"""Elements and tokens of the largest example."""
_ATTENTION = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
_FORWARD = ("ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2")


class FlowModel(DiffusionModel):
    """A transformer in which text and picture attend to each other, on a flow-matching schedule. Times (n,)
    are float32."""

    DENOISER: ClassVar[str] = "transformer"
    ROLES: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "all": (*_ATTENTION, *_FORWARD),
        # The joint attention, in which text and picture meet. No role "self": the same layers are that, too.
        "cross": tuple(f"attn.{name}" for name in _ATTENTION),
        "text_in": ("context_embedder",),
        "text": ("context_embedder",),
    }
    OUTSIDE: ClassVar[tuple[str, ...]] = ("context_embedder",)
    """The one layer that reads the raw text states: in the blocks they are mixed with the picture's."""
    SOLVERS: ClassVar[tuple[str, ...]] = ("euler",)
    """A flow is a velocity: the other solvers are for predictions on DDPM's schedule."""

    @property
    @abstractmethod
    def picture_tokens(self) -> int:
        """Tokens of one picture in the transformer: a dynamic shift depends on them."""

    @property
    def widths(self) -> tuple[int, int]:
        """Of a token state and of the pooled vector."""
        return self.denoiser.config.joint_attention_dim, self.denoiser.config.pooled_projection_dim

    @property
    def capabilities(self) -> frozenset[str]:
        return frozenset({NULL_PROMPT, TEXT_STATES})

    @property
    def _times(self) -> int:
        return int(self.scheduler.config.num_train_timesteps)

    def sample_times(self, n: int, generator: torch.Generator) -> Tensor:
        """Logit-normal over the schedule with its own shift, as diffusers' training scripts for SD3 and Flux
        sample; a dynamic shift is left out, as there."""
        places = torch.randn(n, generator=generator).sigmoid() * self._times
        times: Tensor = self.scheduler.timesteps[places.long().clamp_max(self._times - 1)]
        return times

    def times_at(self, shares: Tensor) -> Tensor:
        return (shares * self._times).float()

    def _noise_share(self, t: Tensor, like: Tensor) -> Tensor:
        """s as (B, 1, 1, 1) in the dtype and on the device of ``like``."""
        return (t.to(like.device, torch.float32) / self._times).to(like.dtype).view(-1, 1, 1, 1)

    def add_noise(self, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """(1 - s) x_0 + s noise."""
        s = self._noise_share(t, clean)
        return (1 - s) * clean + s * noise

    def target(self, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """The velocity noise - x_0, at every time."""
        return noise - clean

    def to_noise(self, prediction: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """x_t + (1 - s) v."""
        return x + (1 - self._noise_share(t, x)) * prediction

    def noised(self, solver: Any, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """As `add_noise`: the solver works on x_t itself."""
        return self.add_noise(clean, noise, t)

    def solver(self, sampler: SamplerConfig) -> Any:
        """Euler's method on the base's own schedule, which `sampler.spacing` does not change. Raises
        UsageError as `require_sampler`."""
        self.require_sampler(sampler, self.path, self.denoiser.config)
        scheduler = type(self.scheduler).from_config(self.scheduler.config)
        options: dict[str, Any] = {"mu": self._dynamic_shift()} if self._shifts_by_tokens else {}
        scheduler.set_timesteps(sampler.steps, device=self.device, **self.solver_options(sampler), **options)
        return scheduler

    def solver_options(self, sampler: SamplerConfig) -> dict[str, Any]:
        """Keyword arguments of the scheduler's ``set_timesteps`` that are the family's own."""
        return {}

    @property
    def _shifts_by_tokens(self) -> bool:
        return bool(self.scheduler.config.use_dynamic_shifting)

    def _dynamic_shift(self) -> float:
        """The logarithm of the shift: linear in the number of the picture's tokens."""
        config = self.scheduler.config
        slope = (config.max_shift - config.base_shift) / (
            config.max_image_seq_len - config.base_image_seq_len
        )
        return float(config.base_shift + slope * (self.picture_tokens - config.base_image_seq_len))

    def example(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Conditioning]:
        channels, side, _ = self.latent_shape
        side, (width, pooled) = min(side, EXAMPLE_SIDE), self.widths
        x = torch.randn(1, channels, side, side, generator=generator)
        tokens = torch.randn(1, EXAMPLE_TOKENS, width, generator=generator)
        cond = Conditioning(tokens, torch.randn(1, pooled, generator=generator)).to(self.device)
        t = torch.tensor([self._times / 2], device=self.device)
        return x.to(self.device), t, cond
