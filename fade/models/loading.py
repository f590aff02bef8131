"""Load the base: one gate for every family."""

from __future__ import annotations

import contextlib
from typing import Any

import diffusers
import torch
import transformers

from fade.errors import BaseModelError
from fade.models.base import DiffusionModel
from fade.models.complete import check_words, load_complete, load_tokenizer
from fade.models.families import known_families
from fade.models.layout import BASE, LOCAL, check_model, model_sha256, pipeline_class, pipeline_index, resolve
from fade.models.original_layout import load_original
from fade.models.part_files import PartFiles
from fade.models.probe import infinite_part


def load_model(path: str, *, device: str = "auto", dtype: torch.dtype = torch.float32) -> DiffusionModel:
    """Load a local directory in diffusers' layout, a hub id or ``FILE.safetensors@DIRECTORY``, frozen, in
    eval mode.

    dtype: of the denoiser's and the text encoders' weights, whatever their configurations and files hold; the
    autoencoder is float32. Raises BaseModelError when the directory is missing, incomplete, unreadable, of a
    class that is not supported, or refused, and when a tensor or its output is not finite."""
    home = resolve(path)
    files = check_model(home, BASE)
    family = known_families()[pipeline_class(home)]
    try:
        parts = {part.name: _load_part(part, dtype) for part in files}
        check_words(parts, path, BASE)
        model = family(path, parts, model_sha256(home, BASE), torch.device("cpu"), pipeline_index(home))
        # on the CPU: the GPU's libraries must not start before `enable_determinism`
        infinite = infinite_part(model)
        model.move(torch.device(pick_device(device)))
    except BaseModelError:
        raise
    except Exception as error:  # the libraries raise a dozen kinds
        action = "compare it with a directory that diffusers saved."
        raise BaseModelError(f"{path} cannot be loaded: {error}.", stage="base", action=action) from error
    if infinite:
        what = f"{path}: the output of its {infinite} is not finite."
        raise BaseModelError(what, stage="base", action="fetch the model anew: its weights are broken.")
    return model


def _load_part(part: PartFiles, dtype: torch.dtype) -> Any:
    owner = getattr(diffusers, part.kind, None) or getattr(transformers, part.kind)
    if "Tokenizer" in part.kind:
        return load_tokenizer(owner, part.folder, BASE)
    if not part.weights:
        return owner.from_pretrained(part.folder, **LOCAL)
    load = load_complete if part.prefix is None else load_original
    return load(owner, part, torch.float32 if part.kind == "AutoencoderKL" else dtype, BASE)


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
