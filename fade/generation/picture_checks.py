"""What counts as a picture: finite latents, and more than one colour.

A model that breaks puts out black pictures, and what shows nothing shows no erased concept either. One flat
drawing by itself may be what was asked for (a white square). So the latents must always be finite, and a run
stops when half of the pictures of a target, or half of all, are of one colour, and a flat picture by an
erased model is no evidence of an erasure. Ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from fade.errors import AdapterError, BaseModelError, FadeError
from fade.models.base import DiffusionModel
from fade.utils.notes import note

MOST_FLAT = 0.5
"""Share of a target's pictures, and of all, at which pictures of one colour stop a run."""


def flat(pixels: np.ndarray) -> np.ndarray:
    """(n,) bool: which of the pictures (n, H, W, 3) have one colour, black say, in every pixel."""
    return np.asarray((pixels == pixels[:, :1, :1]).all(axis=(1, 2, 3)))


def require_finite(latents: Tensor, prompts: Sequence[str], stage: str, adapter: str = "") -> None:
    """Raises BaseModelError, or AdapterError for latents by an erased model, when some are not finite; the
    first such prompt is named.

    latents (B, C, h, w), one a prompt; adapter: the sha256, or "" for the original model."""
    finite = torch.isfinite(latents).flatten(1).all(1).tolist()
    if lost := [prompt for prompt, one in zip(prompts, finite, strict=True) if not one]:
        raise _broken(lost[0], f"{len(lost)} of {len(prompts)} latents are not finite", stage, adapter)


def decode_checked(
    base: DiffusionModel, latents: Tensor, prompt: str, stage: str, adapter: str = ""
) -> np.ndarray:
    """Pictures (n, H, W, 3), uint8, of latents (n, C, h, w) that count as pictures of one target. Raises as
    `require_finite` and `require_pictures`."""
    require_finite(latents, [prompt] * len(latents), stage, adapter)
    pixels = base.decode(latents)
    require_pictures({prompt: flat(pixels)}, [prompt], stage, adapter)
    return pixels


def require_pictures(
    blank: Mapping[str, np.ndarray], targets: Sequence[str], stage: str, adapter: str = ""
) -> None:
    """Raises BaseModelError, or AdapterError for pictures by an erased model, when at least half of the
    pictures of a target's prompt, or of all prompts, are flat. Other flat ones are named in a note.

    blank: prompt -> `flat` of its pictures; targets: the targets' prompts; adapter: as above."""
    some = {prompt: one for prompt, one in blank.items() if one.any()}
    if not some:
        return
    mostly = np.concatenate(list(blank.values())).mean() >= MOST_FLAT
    for prompt, one in some.items():
        if mostly or (prompt in targets and one.mean() >= MOST_FLAT):
            raise _broken(prompt, f"{_count(one)} have one colour in every pixel", stage, adapter)
    listed = ", ".join(f"{prompt!r} ({_count(one)})" for prompt, one in some.items())
    note(f"pictures of one colour by {_model(adapter)}: {listed}.")


def _count(blank: np.ndarray) -> str:
    return f"{int(blank.sum())} of {len(blank)}"


def _model(adapter: str) -> str:
    return f"the erased model (adapter {adapter[:12]})" if adapter else "the original model"


def _broken(prompt: str, why: str, stage: str, adapter: str) -> FadeError:
    what = f"the pictures of {prompt!r} by {_model(adapter)} are broken: {why}."
    if adapter:
        action = "train again with a lower train.lr, or another method: nothing is erased by a broken model."
        return AdapterError(what, stage=stage, action=action)
    action = "look at the pictures (`fade generate`); name a base, a sampler or a precision that draws them."
    return BaseModelError(what, stage=stage, action=action)
