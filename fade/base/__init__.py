"""The diffusion model under the knife: load, encode prompts, predict noise, sample in batches, decode."""

from fade.base.model import Base
from fade.base.sampling import sample

__all__ = ["Base", "sample"]
