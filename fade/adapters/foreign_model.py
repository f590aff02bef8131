"""Somebody else's whole model: a diffusers directory whose denoiser was trained further."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from fade.adapters.foreign import STAGE, ForeignWeights
from fade.errors import AdapterError, BaseModelError
from fade.models.layout import read_config
from fade.models.part_files import in_folder, plain_name, select_files
from fade.models.probe import is_finite
from fade.models.safetensors_file import read_safetensors

if TYPE_CHECKING:
    from fade.models.base import DiffusionModel

_FREE = ("sample_size", "dropout")
"""Of a configuration, what does not change the network's function at the base's size."""


def read_foreign_model(model: DiffusionModel, home: Path) -> ForeignWeights:
    """The weights of the denoiser in ``home`` that differ from the base's; facts name the other parts that
    differ, which are not used. Nothing of the model is changed.

    home: a diffusers directory, or its denoiser's folder. Raises AdapterError that names the tensor: not
    safetensors, missing, unknown, misshapen or not finite; another configuration; nothing that differs."""
    folder = home / model.DENOISER if (home / model.DENOISER).is_dir() else home
    if not (folder / "config.json").is_file():
        what = f"{folder / 'config.json'} is missing."
        raise _fault(what, f"name a diffusers directory with its {model.DENOISER}.")
    if keys := _differing(dict(model.denoiser.config), read_config(folder / "config.json", STAGE)):
        what = f"{folder / 'config.json'}: its {keys[0]} is not that of the base's {model.DENOISER}."
        raise _fault(what, "set data.base to the model that it was made from.")
    own, weights, names = model.denoiser.state_dict(), {}, set()
    for name, value in _tensors(folder, type(model.denoiser).__name__):
        if name not in own or value.shape != own[name].shape:
            what = f"{folder}: {name[:200]} is no tensor of the base's {model.DENOISER}"
            raise _fault(f"{what}, or of another shape.", "set data.base to the model that it was made from.")
        if not is_finite(value):
            raise _fault(f"{folder}: {name} is not finite.", "fetch it anew.")
        names.add(name)
        if not _same(value, own[name]):
            weights[name] = value.float()
    if missing := sorted(set(own) - names):
        raise _fault(f"{folder}: {missing[0]} is missing, one of {len(missing)}.", "fetch it anew.")
    if not weights:
        raise _fault(f"{home} changes nothing: its {model.DENOISER} is the base's.", "name the erased model.")
    differing = [] if folder == home else sorted(_differing_parts(model, home))
    others = f"{', '.join(differing)} (not used: the base's own were)" if differing else "those of the base"
    facts = {"layout": f"a whole {model.DENOISER}", "tensors": f"{len(weights)} of {len(own)} differ"}
    return ForeignWeights(weights, {**facts, "other parts": others})


def _tensors(folder: Path, kind: str) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of a part of the class ``kind``, from the files that a base's would be read from."""
    try:
        part = select_files(in_folder(folder), "", kind, STAGE, str(folder))
        part.tensors(STAGE)  # its heads
    except BaseModelError as error:
        raise _fault(error.what, error.action) from error
    for file in part.weights:
        try:
            yield from read_safetensors(file)[1].items()
        except (OSError, SafetensorError) as error:
            raise _fault(f"{file} cannot be read: {str(error)[:200]}.", "fetch it anew.") from error


def _same(value: Tensor, own: Tensor) -> bool:
    """Whether a tensor is the base's, at the lower precision of the two."""
    own = own.detach().cpu()
    return torch.equal(value, own.to(value.dtype)) or torch.equal(value.to(own.dtype), own)


def _differing(own: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Settings that both have and that differ."""
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in own.items()}
    shared = (key for key in plain if key in other and not key.startswith("_") and key not in _FREE)
    return sorted(key for key in shared if plain[key] != other[key])


def _differing_parts(model: DiffusionModel, home: Path) -> Iterator[str]:
    """Of the parts beside the denoiser those that ``home`` has and that differ from the base's."""
    for name, part in model.parts.items():
        folder = home / name
        if name == model.DENOISER or not folder.is_dir():
            continue
        if isinstance(part, torch.nn.Module):
            kind = type(part).__name__
            own = {plain_name(key, kind): value for key, value in part.state_dict().items()}
            found = {plain_name(key, kind): value for key, value in _tensors(folder, kind)}
            shared = own.keys() & found.keys()
            if not shared or any(
                own[key].shape != found[key].shape or not _same(found[key], own[key]) for key in shared
            ):
                yield name
        elif hasattr(part, "config") and _differing(
            dict(part.config), read_config(folder / "scheduler_config.json", STAGE)
        ):
            yield name


def _fault(what: str, action: str) -> AdapterError:
    return AdapterError(what, stage=STAGE, action=action)
