"""Somebody else's LoRA: a safetensors file in the layout of diffusers, kohya or peft, as weights of the
denoiser.

A layer's update is alpha / rank times up @ down; each layer has a rank and an alpha of its own. Where no
alpha is written, alpha is the rank: that is kohya's rule, and diffusers'."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from fade.adapters.adapter_header import DTYPES
from fade.adapters.foreign_settings import Settings, read_settings
from fade.adapters.kohya import kohya_layers, matrices
from fade.errors import AdapterError
from fade.models.probe import is_finite
from fade.models.safetensors_file import read_header, read_safetensors
from fade.utils.parsing import MalformedError
from fade.utils.reading import ADAPTER

if TYPE_CHECKING:
    from fade.models.base import DiffusionModel

STAGE = "evaluate"
PEFT = "base_model.model."
CONVERT = (
    "convert it where you trust it: safetensors.torch.save_file(torch.load(FILE, weights_only=True), OUT)."
)
_DOWN, _UP, _ALPHA = "down", "up", "alpha"
_ENDS = {
    ".lora_down.weight": _DOWN, ".lora_A.weight": _DOWN, ".lora_A.default.weight": _DOWN,
    ".lora.down.weight": _DOWN, "_lora.down.weight": _DOWN,
    ".lora_up.weight": _UP, ".lora_B.weight": _UP, ".lora_B.default.weight": _UP,
    ".lora.up.weight": _UP, "_lora.up.weight": _UP,
    ".alpha": _ALPHA,
}  # fmt: skip
"""End of a key -> what it holds."""
_TEXT = ("text_encoder", "lora_te", "te_", "te1_", "te2_")
_OLD_OUT = re.compile(r"\.to_out$")


@dataclass(frozen=True)
class ForeignWeights:
    """Weights of the denoiser that somebody else changed."""

    weights: Mapping[str, Tensor] = field(repr=False)
    """Parameter's name -> its whole new value, float32."""
    facts: Mapping[str, str]
    """What a page shows of them: name -> words."""


def refuse_pickle(path: Path) -> None:
    """Raises AdapterError for a file that is not called .safetensors."""
    if path.suffix != ".safetensors":
        what = f"{path} is refused: weights are read from .safetensors files alone."
        raise AdapterError(what, stage=STAGE, action=CONVERT)


def read_foreign_lora(model: DiffusionModel, path: Path) -> ForeignWeights:
    """The denoiser's weights with the LoRA of a file added. Nothing of the model is changed.

    Raises AdapterError that names the key: a file that is no safetensors, that changes more than the
    denoiser, of a layout that is not known, for another base, not finite, or of zeros alone."""
    refuse_pickle(path)
    try:
        metadata, entries, _ = read_header(path, ADAPTER)
        _check_types(entries, path)
        _, tensors = read_safetensors(path)
    except (OSError, MalformedError) as error:
        raise _fault(f"{path} cannot be read: {error}.") from error
    except SafetensorError as error:
        raise _fault(f"{path} is no safetensors file: {' '.join(str(error).split())[:200]}.") from error
    peft = any(key.startswith(PEFT) for key in tensors)
    settings = read_settings(path, metadata, model.DENOISER, peft=peft)
    layers = _by_layer(model, tensors, path)
    own = dict(model.denoiser.named_parameters())
    weights: dict[str, Tensor] = {}
    for name, parts in layers.items():
        change = _update(name, parts, own[f"{name}.weight"].shape, settings, path)
        if change.any():
            weights[f"{name}.weight"] = own[f"{name}.weight"].detach().float().cpu() + change
    if not weights:
        raise _fault(f"{path} changes nothing: the updates of all its layers are zero.", "train it further.")
    ranks = sorted({len(parts[_DOWN]) for parts in layers.values()})
    written = settings.alpha is not None or any(_ALPHA in parts for parts in layers.values())
    facts = {
        "layout": _layout(model, tensors),
        "layers": str(len(layers)),
        "ranks": ", ".join(map(str, ranks)),
        "alpha": "as written" if written else "none written, hence the rank",
    }
    return ForeignWeights(weights, facts)


def _by_layer(
    model: DiffusionModel, tensors: Mapping[str, Tensor], path: Path
) -> dict[str, dict[str, Tensor]]:
    """The denoiser's layer -> its down, up and alpha. Raises AdapterError for the first key that is none."""
    kohya, known = kohya_layers(model), set(matrices(model))
    layers: dict[str, dict[str, Tensor]] = {}
    unknown = []
    for key, value in tensors.items():
        end = next((end for end in _ENDS if key.endswith(end)), "")
        written = key[: len(key) - len(end)]
        layer = kohya.get(written) or _plain(written.removeprefix(PEFT).removeprefix(f"{model.DENOISER}."))
        if not end or layer not in known:
            unknown.append(key)
        elif layers.setdefault(layer, {}).setdefault(_ENDS[end], value) is not value:
            raise _fault(f"{path}: {key[:200]!r} is the second {_ENDS[end]} of {layer}.")
    _refuse_unknown(model, unknown, len(layers), path)
    for layer, parts in layers.items():
        if missing := {_DOWN, _UP} - set(parts):
            raise _fault(f"{path}: {layer} has no {sorted(missing)[0]} matrix.")
    return layers


def _plain(written: str) -> str:
    """A layer as diffusers names it now: ``attn1.processor.to_out`` (2023) -> ``attn1.to_out.0``."""
    if ".processor." not in written:
        return written
    return _OLD_OUT.sub(".to_out.0", written.replace(".processor.", "."))


def _refuse_unknown(model: DiffusionModel, unknown: list[str], found: int, path: Path) -> None:
    if not unknown:
        return
    key, network = unknown[0][:200], f"{model.FAMILY}'s {model.DENOISER}"
    if not found:
        what = f"{path}: none of its {len(unknown)} keys names a layer of {network}, the first is {key!r}."
        raise _fault(what, "set data.base to the model that it was made for.")
    if text := [one for one in unknown if one.removeprefix(PEFT).startswith(_TEXT)]:
        what = f"{path}: {text[0][:200]!r} changes the text encoder, and changes of the denoiser are judged"
        raise _fault(f"{what} alone.", "name an adapter of the denoiser alone.")
    what = f"{path}: {key!r} is no weight of a LoRA on {network}, one of {len(unknown)} such keys."
    raise _fault(what, "use a plain LoRA (down, up, alpha) of this base.")


def _update(
    layer: str, parts: Mapping[str, Tensor], shape: torch.Size, settings: Settings, path: Path
) -> Tensor:
    """alpha / rank times up @ down, float32, of the weight's shape."""
    down, up = (parts[one].float() for one in (_DOWN, _UP))
    rank = len(down) if down.dim() else 0
    fits = min(down.dim(), up.dim()) >= 2 and rank and up.flatten(1).shape[1] == rank
    if not fits or (len(up), *down.shape[1:]) != tuple(shape):
        made = f"down {list(down.shape)} and up {list(up.shape)}"
        what = f"{path}: {layer} has {made}, which are no update of a weight {list(shape)}."
        raise _fault(what, "set data.base to the model that it was made for.")
    alpha = settings.alpha_of(layer, rank)
    if (written := parts.get(_ALPHA)) is not None:
        alpha = float(written) if written.numel() == 1 else float("nan")
    scale = settings.scale(alpha, rank)
    change = scale * (up.flatten(1) @ down.flatten(1)).view(shape)
    if not is_finite(change):
        raise _fault(f"{path}: the update of {layer} is not finite.", "use an intact file.")
    return change


def _check_types(entries: Mapping[str, Any], path: Path) -> None:
    for name, entry in entries.items():
        dtype = entry.get("dtype") if isinstance(entry, dict) else None
        if dtype not in DTYPES:
            what = f"{path}: {name[:200]!r} has the type {str(dtype)[:40]}, not one of {', '.join(DTYPES)}."
            raise _fault(what, "save it in one of these types.")


def _layout(model: DiffusionModel, tensors: Mapping[str, Tensor]) -> str:
    first = next(iter(tensors))
    if first.startswith(PEFT):
        return "peft"
    return "kohya" if model.KOHYA and first.startswith(model.KOHYA) else "diffusers"


def _fault(what: str, action: str = "fetch it anew.") -> AdapterError:
    return AdapterError(what, stage=STAGE, action=action)
