"""Adapters for other tools: kohya's layout, and a whole directory with the adapter in the denoiser's
weights."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from fade.adapters.change import SwappedWeights
from fade.adapters.kohya import kohya_name
from fade.adapters.lora import LoraAdapter
from fade.errors import AdapterError
from fade.models.base import DiffusionModel
from fade.models.layout import read_config, resolve
from fade.models.safetensors_file import canonical_safetensors

STAGE = "export"
INDEX = "model_index.json"
COPIED = (".json", ".txt", ".model", ".safetensors")
"""Of a base's parts, the files that a copy gets: configurations, tokenizers, weights."""


def kohya_file(lora: LoraAdapter, facts: Mapping[str, str]) -> bytes:
    """The adapter as a safetensors file of kohya's layout, ``facts`` in its header.

    The scale alpha / rank is baked into the up matrices, and alpha is written as the rank: the strength is
    the same in tools that read ``.alpha`` and in those that do not. Raises AdapterError for a family of which
    diffusers reads no such file."""
    model, rank = lora.model, lora.config.rank
    if not model.KOHYA:
        what = f"{model.FAMILY} has no kohya layout that diffusers reads."
        raise AdapterError(what, stage=STAGE, action="export it with --format diffusers or merged.")
    state: dict[str, Tensor] = {}
    for key, value in lora.state_dict().items():
        layer, part, _ = key.removeprefix(f"{model.DENOISER}.").rsplit(".", 2)
        name = kohya_name(model, layer)
        if part == "lora_A":
            state[f"{name}.lora_down.weight"] = value
            state[f"{name}.alpha"] = torch.tensor(float(rank))
        else:
            state[f"{name}.lora_up.weight"] = value * (lora.config.alpha / rank)
    network = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(rank),
    }
    return canonical_safetensors(state, {"format": "pt", **network, **facts})


def write_merged(lora: LoraAdapter, out: Path) -> None:
    """Make the directory ``out``: the base, with the adapter in its denoiser's weights. All or nothing; the
    denoiser in memory is left without the adapter. Raises AdapterError for a base that is no directory or in
    half precision, and when a merged weight is not finite; OSError."""
    model, scratch = lora.model, out.with_name(f".{out.name}.{os.getpid()}.part")
    home = resolve(model.path)
    if not (home / INDEX).is_file():
        what = f"{home} is one file: a merged model is made of a base in diffusers' layout."
        raise AdapterError(what, stage=STAGE, action="export it with --format kohya or diffusers.")
    lora.merge()
    if not lora.merged:
        dtype = str(model.dtype).removeprefix("torch.")
        what = f"a merged model in {dtype} would be the base: the change is lost in the weights' rounding."
        raise AdapterError(what, stage=STAGE, action="add --set model.dtype=fp32.")
    weights = {f"{name}.weight": value.clone() for name, value in lora.base_weights().items()}
    lora.remove()
    swapped = SwappedWeights(model, weights)
    try:
        _write_directory(model, home, scratch)
        scratch.rename(out)  # fails for a folder that holds something
    except SafetensorError as error:  # what the library makes of a full disk
        raise OSError(str(error)) from error
    finally:
        swapped.remove()
        shutil.rmtree(scratch, ignore_errors=True)


def _write_directory(model: DiffusionModel, home: Path, out: Path) -> None:
    """The base as it is in memory: its denoiser saved, every other part copied."""
    # a name of a stranger's file: ".." would be another directory than the copy
    parts = [name for name in read_config(home / INDEX) if name.isidentifier() and (home / name).is_dir()]
    out.mkdir(parents=True)
    shutil.copyfile(home / INDEX, out / INDEX)
    model.denoiser.save_pretrained(out / model.DENOISER, safe_serialization=True)
    config = f"{model.DENOISER}/config.json"
    shutil.copyfile(home / config, out / config)  # the library's names the directory of this machine
    for part in parts:
        (out / part).mkdir(exist_ok=True)
        for file in (home / part).iterdir() if part != model.DENOISER else ():
            if file.suffix in COPIED and file.is_file():
                shutil.copyfile(file, out / part / file.name)
