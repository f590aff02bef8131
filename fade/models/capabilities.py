"""What a family may lack, and the refusal where something needs it. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fade.errors import UsageError

NULL_PROMPT, TEXT_STATES, DDIM = "null_prompt", "text_states", "ddim"
"""What a family may have (`fade.models.base.DiffusionModel.capabilities`): a prediction without a prompt;
layers that read the raw text states; a deterministic trajectory of noise that can be walked backwards."""
SENTENCES = {
    NULL_PROMPT: "has no null prompt: its guidance is distilled into the weights",
    TEXT_STATES: "has no layer that reads the raw text states",
    DDIM: "predicts a velocity, and DDIM inverts predictions of noise",
}
"""Of each capability, what a model without it is."""


def has_null_prompt(kind: str, config: Mapping[str, Any]) -> bool:
    """Of a denoiser's class and configuration. A Flux whose guidance scale is no input (schnell) has none."""
    return kind != "FluxTransformer2DModel" or bool(config.get("guidance_embeds", False))


def refusal(capability: str, what: str, base: str, family: str) -> UsageError:
    """The error where ``what`` needs a capability that the base at ``base`` lacks."""
    reason = f"{what} cannot be used with {base}: {family} {SENTENCES[capability]}."
    return UsageError(reason, stage="models", action="name another method, or another base (data.base).")
