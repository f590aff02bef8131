"""A base as one safetensors file in the original key layout, beside a local directory of configurations.

Its name is one string, ``FILE.safetensors@DIRECTORY``, as a hub id with its revision is one. Configurations,
tokenizers and scheduler are the directory's. Weights are the file's; those of a part that the file does not
hold (an autoencoder, text encoders) are the directory's, too. No torch."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from fade.errors import BaseModelError
from fade.models.judge_checks import STAGE as JUDGE_STAGE
from fade.models.judge_checks import import_action
from fade.models.part_files import PICKLES, tensor_entries
from fade.utils.notes import note

SUFFIX = ".safetensors"
_NAME = re.compile(r"(?P<file>.+\.safetensors)@(?P<config>.+)", re.DOTALL)
_VAE, _TEXT = ("first_stage_model.", "vae."), "text_encoders.{}.transformer."
_CLIP_L, _CLIP_G, _T5 = ((_TEXT.format(name),) for name in ("clip_l", "clip_g", "t5xxl"))
_DENOISER = "model.diffusion_model."
_PREFIXES: dict[str, dict[str, tuple[str, ...]]] = {
    "StableDiffusionPipeline": {
        "unet": (_DENOISER,),
        "vae": _VAE,
        "text_encoder": ("cond_stage_model.transformer.", "cond_stage_model.model."),
    },
    "StableDiffusionXLPipeline": {
        "unet": (_DENOISER,),
        "vae": _VAE,
        "text_encoder": ("conditioner.embedders.0.transformer.",),
        "text_encoder_2": ("conditioner.embedders.1.model.",),
    },
    "StableDiffusion3Pipeline": {
        "transformer": (_DENOISER, ""),
        "vae": _VAE,
        "text_encoder": _CLIP_L,
        "text_encoder_2": _CLIP_G,
        "text_encoder_3": _T5,
    },
    "FluxPipeline": {
        "transformer": (_DENOISER, ""),
        "vae": _VAE,
        "text_encoder": _CLIP_L,
        "text_encoder_2": _T5,
    },
}
"""Pipeline -> its networks, each with what the names of its tensors begin with. "": the transformer alone."""
_DENOISERS = {
    "joint_blocks.0.": "StableDiffusion3Pipeline",
    "double_blocks.0.": "FluxPipeline",
    f"{_DENOISER}label_emb.": "StableDiffusionXLPipeline",
    f"{_DENOISER}input_blocks.": "StableDiffusionPipeline",
}
"""What the name of a denoiser's tensor holds, the first that fits -> its pipeline."""
_MARKS: dict[str, tuple[str, Any]] = {
    "v_pred": ("prediction_type", "v_prediction"),
    "ztsnr": ("rescale_betas_zero_snr", True),
    "edm_mean": ("_class_name", "EDMEulerScheduler"),
}
"""Tensors by which files of SDXL name their schedule -> the key of the scheduler's configuration."""
_NAMED = 3


def split(where: Path | str) -> tuple[Path, Path] | None:
    """(the file, the directory of its configurations); None for a base of another layout."""
    found = _NAME.fullmatch(str(where))
    return (Path(found["file"]), Path(found["config"])) if found else None


def join(file: str, config: str) -> str:
    """The name of a base of this layout."""
    return f"{file}@{config}"


def refuse_file(where: str, role: str) -> None:
    """Raises BaseModelError, with what is lacking, where a model's name is that of one file."""
    if not Path(where).is_file():
        return
    if role == JUDGE_STAGE and where.lower().endswith((SUFFIX, *PICKLES)):
        what, action = "holds a network's weights alone", import_action(where)
    elif role != "base":
        what, action = "is a file", f"name the directory that transformers saved in data.{role}."
    elif where.endswith(SUFFIX):
        what = "holds weights alone: its configurations are needed, too"
        action = "name a local directory with them in data.base_config."
    else:
        what = f"is no {SUFFIX} file, and a base in one file is read from such a file alone"
        action = "where you trust its author (a pickle can run code), convert it, or name a directory."
    raise BaseModelError(f"{where} {what}.", stage=role, action=action)


def part_prefixes(file: Path, config: Path, pipeline: str, parts: Collection[str]) -> dict[str, str]:
    """Part -> what the names of its tensors begin with, of the parts that the file holds. What it holds
    beside them is named once. Raises BaseModelError for a file that is cut off, or of another pipeline."""
    names = list(tensor_entries(file, "base"))
    found = next((kind for mark, kind in _DENOISERS.items() if any(mark in one for one in names)), "")
    if found != pipeline:
        holds = f"the denoiser of a {found}" if found else "no denoiser that is known in the original layout"
        what = f"{file} holds {holds}, {config / 'model_index.json'} names the pipeline {pipeline}."
        action = (
            "name a file in the original layout in data.base, its family's directory in data.base_config."
        )
        raise BaseModelError(what, stage="base", action=action)
    known = {part: prefixes for part, prefixes in _PREFIXES[pipeline].items() if part in parts}
    held: dict[str, str] = {}
    for part, prefixes in known.items():
        if len(here := _held(prefixes, names)) > 1:
            what = f"{file} holds the {part} twice, as {here[0]} and as {here[1]}."
            action = "fetch the file anew, or remove the one that is not meant."
            raise BaseModelError(what, stage="base", action=action)
        held |= {part: here[0]} if here else {}
    if others := sorted(known.keys() - held.keys()):
        note(f"{file}: what it does not hold is read from {config}: {', '.join(others)}.")
    if ignored := sorted(
        one for one in names if not one.startswith(tuple(held.values())) and one not in _MARKS
    ):
        more = f" and {len(ignored) - _NAMED} more" if ignored[_NAMED:] else ""
        note(f"{file}: ignored, as no part of a {pipeline}: {', '.join(ignored[:_NAMED])}{more}.")
    return held


def check_schedule(file: Path, config: Path, scheduler: Mapping[str, Any]) -> None:
    """Raises BaseModelError for a file that names another schedule than the configuration ``scheduler``."""
    names = tensor_entries(file, "base")
    for mark, (key, value) in _MARKS.items():
        if mark in names and scheduler.get(key) != value:
            what = f"{file} holds {mark}: its schedule has the {key} {value}, {config} {scheduler.get(key)}."
            action = "name the directory of the file's own configurations in data.base_config."
            raise BaseModelError(what, stage="base", action=action)


def _held(prefixes: Iterable[str], names: list[str]) -> list[str]:
    """The prefixes that names have; "" where they have no other."""
    here = [one for one in prefixes if one and any(name.startswith(one) for name in names)]
    return here or [one for one in prefixes if not one]
