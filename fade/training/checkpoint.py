"""Checkpoints of a training: the adapter, AdamW's moments and the history in one safetensors file. No pickle.

Nothing else has a state: every draw is named by (seed, step, rank), and the rate is a function of the step.
One file, renamed into place, is complete or absent; the last two are kept."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from fade.adapters.lora import LoraAdapter
from fade.errors import TrainingError
from fade.models.safetensors_file import canonical_safetensors
from fade.utils.files import write_whole

KEEP = 2
_NAME = re.compile(r"step-(\d{8})\.safetensors")


@dataclass
class State:
    """Where a training stands after ``step`` optimiser steps."""

    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    scaler: dict[str, float] = field(default_factory=dict)
    """Loss scale of fp16 training, empty otherwise."""


def steps_in(folder: Path) -> list[int]:
    """Steps of the checkpoints in ``folder``, ascending."""
    if not folder.is_dir():
        return []
    return sorted(int(match[1]) for file in folder.iterdir() if (match := _NAME.fullmatch(file.name)))


def path_of(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}.safetensors"


def save(folder: Path, key: str, lora: LoraAdapter, optimizer: Any, state: State) -> Path:
    """Write the checkpoint of ``state.step`` for the job ``key`` and drop all but the last two."""
    tensors = dict(lora.state_dict())
    for name, parameter in lora.named_parameters().items():
        for slot, value in optimizer.state.get(parameter, {}).items():  # step, exp_avg, exp_avg_sq
            tensors[f"{slot}/{name}"] = value.detach().cpu()
    metadata = {
        "key": key,
        "step": str(state.step),
        "history": json.dumps(state.history),
        "scaler": json.dumps(state.scaler),
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = path_of(folder, state.step)
    write_whole(path, canonical_safetensors(tensors, metadata), stage="train", sync=True)
    for step in steps_in(folder)[:-KEEP]:
        path_of(folder, step).unlink(missing_ok=True)
    return path


def restore(folder: Path, key: str, lora: LoraAdapter, optimizer: Any) -> State:
    """Load the newest checkpoint into the mesh and the optimiser; a fresh ``State`` when there is none.

    Raises TrainingError when the newest checkpoint is damaged or belongs to another job.
    """
    steps = steps_in(folder)
    if not steps:
        return State()
    path = path_of(folder, steps[-1])
    action = f"delete {path} to resume from the one before it, or {folder} to start anew."
    metadata, tensors = _read(path, action)
    if metadata.get("key") != key:
        raise TrainingError(f"{path} belongs to another job.", stage="resume", action=action)
    lora.load_state_dict({name: value for name, value in tensors.items() if "/" not in name})
    parameters = lora.named_parameters()
    for label, value in tensors.items():
        slot, sep, name = label.partition("/")
        if sep:
            parameter = parameters[name]
            optimizer.state[parameter][slot] = (
                value if slot == "step" else value.to(parameter.device)
            )  # AdamW counts on the CPU
    return State(steps[-1], json.loads(metadata["history"]), json.loads(metadata["scaler"]))


def _read(path: Path, action: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            return dict(file.metadata() or {}), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"{path} is damaged: {error}.", stage="resume", action=action) from error
