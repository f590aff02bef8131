"""Load the base: one gate for every family."""

from __future__ import annotations

import contextlib
from typing import Any

import diffusers
import torch
import transformers

from fade.errors import BaseModelError
from fade.models.base import DiffusionModel
from fade.models.families import known_families
from fade.models.layout import (
    LOCAL,
    base_sha256,
    check_pipeline,
    parts_of,
    pipeline_class,
    read_config,
    resolve,
)
from fade.models.probe import infinite_part


def load_model(path: str, *, device: str = "auto", dtype: torch.dtype = torch.float32) -> DiffusionModel:
    """Load a local directory in diffusers' layout (or a hub id), frozen, in eval mode.

    dtype: of the denoiser's and the text encoders' weights, whatever their configurations name; the
    autoencoder is float32. Raises BaseModelError when the directory is missing, incomplete, unreadable, of a
    family that is not known, or holds anything but safetensors, and when its output is not finite."""
    home = resolve(path)
    family = known_families()[pipeline_class(home)]
    check_pipeline(home)
    kinds = parts_of(home)
    parts: dict[str, Any] = {}
    where = torch.device(pick_device(device))
    try:
        for name, kind in kinds.items():
            parts[name] = _load_part(home / name, kind, dtype)
        index = read_config(home / "model_index.json")
        model = family(path, parts, base_sha256(home), torch.device("cpu"), index)
        # on the CPU: the GPU's libraries must not start before `enable_determinism`
        infinite = infinite_part(model)
        model.move(where)
    except Exception as error:  # the libraries raise a dozen kinds
        action = "compare it with a directory that diffusers saved."
        raise BaseModelError(f"{path} cannot be loaded: {error}.", stage="base", action=action) from error
    if infinite:
        what = f"{path}: the output of its {infinite} is not finite."
        raise BaseModelError(what, stage="base", action="fetch the model anew: its weights are broken.")
    return model


def _load_part(folder: Any, kind: str, dtype: torch.dtype) -> Any:
    owner = getattr(diffusers, kind, None) or getattr(transformers, kind)
    if not issubclass(owner, torch.nn.Module):
        return owner.from_pretrained(folder, **LOCAL)
    name = "torch_dtype" if owner.__module__.startswith("diffusers") else "dtype"
    options: dict[str, Any] = {name: torch.float32 if kind == "AutoencoderKL" else dtype}
    model = owner.from_pretrained(folder, use_safetensors=True, **options, **LOCAL)
    return model.eval().requires_grad_(False)


def pick_device(device: str = "auto") -> str:
    """``auto``: the process's GPU when there is one, else the CPU."""
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def suppress_library_output() -> None:
    """Model libraries print bars and advice of their own; the command line has one voice."""
    with contextlib.suppress(AttributeError):
        diffusers.utils.logging.set_verbosity_error()
        diffusers.utils.logging.disable_progress_bar()
        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
