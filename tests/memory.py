"""A device's memory and a base's need of it, made up for tests."""

from __future__ import annotations

from fade.config import ModelConfig
from fade.models.footprint import Footprint
from fade.models.memory import GB, HEADROOM

FOOTPRINT = Footprint(
    weights=int(4 * GB),
    text=int(2 * GB),
    prompt=int(0.1 * GB),
    forward=int(0.25 * GB),
    sample=int(0.5 * GB),
    decode=int(1 * GB),
    encode=int(0.5 * GB),
)
"""About Stable Diffusion's, with a large text encoder."""


def model_config(gb: float, **changes: object) -> ModelConfig:
    """With ``gb`` to plan with."""
    return ModelConfig.model_validate({"memory_gb": gb / (1 - HEADROOM), **changes})
