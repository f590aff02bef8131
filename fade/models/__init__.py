"""The diffusion model under the knife: load, encode prompts, predict noise, sample in batches, decode."""

from fade.models.stable_diffusion import Base

__all__ = ["Base"]
