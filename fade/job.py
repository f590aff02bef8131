"""A training job: everything the trainer needs, in one JSON file, and the key under which its result may be reused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fade.config import MeshConfig, MethodConfig, Section, TrainConfig, fingerprint
from fade.errors import TrainingError

JOB, ADAPTER, HISTORY, PROGRESS, DONE, ERROR, LOG, CHECKPOINTS = (
    "job.json",
    "adapter.safetensors",
    "history.json",
    "progress.json",
    "done.json",
    "error.json",
    "train.log",
    "checkpoints",
)
"""The files of an out folder. ``done.json`` is written last and vouches for the adapter."""

_NOT_IN_KEY = {"base", "latents", "out"}
_NOT_IN_KEY_TRAIN = {"deadline_seconds", "checkpoint_every"}


class Job(Section):
    """One training. Paths are left out of the key, the hashes of what they name are in it."""

    base: str
    """Directory (or hub id) of the original model."""
    base_sha256: str
    """What ``Base.load(base).sha256`` must be."""
    target: str
    """The concept to erase."""
    neighbours: tuple[str, ...]
    """Its K neighbours, nearest first."""
    prompt: str
    """Template with the slot {concept}."""
    negative_prompt: str = ""
    """Prompt of the unconditional branch: the null prompt of the losses."""
    latents: Path
    """safetensors with ``target`` (m, C, h, w) and ``neighbours`` (K, m, C, h, w): clean, scaled latents by the original model."""
    latents_sha256: str
    """Hash of that file."""
    mesh: MeshConfig = MeshConfig()
    method: MethodConfig = MethodConfig()
    train: TrainConfig = TrainConfig()
    provenance: dict[str, str] = {}
    """Goes into the adapter's header as ``fade.<key>``; hence no times in it."""
    out: Path
    """Folder of the result."""

    def key(self) -> str:
        """Hash of all that decides the adapter's bytes: not of paths, nor of how often a checkpoint is written."""
        content = self.model_dump(mode="json", exclude={**dict.fromkeys(_NOT_IN_KEY, True), "train": _NOT_IN_KEY_TRAIN})
        return fingerprint(content)

    def write(self) -> Path:
        """Write ``out/job.json`` and return its path."""
        self.out.mkdir(parents=True, exist_ok=True)
        return write_json(self.out / JOB, self.model_dump(mode="json"))

    @classmethod
    def read(cls, path: Path) -> Job:
        """Raises TrainingError when the file is missing, no JSON, or no job."""
        action = "start the training with `fade run`, which writes the job."
        try:
            return cls.model_validate(json.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise TrainingError(f"{path} cannot be read: {error.strerror}.", stage="train", action=action) from error
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise TrainingError(f"{path}: {key}: {first['msg']}.", stage="train", action=action) from error
        except ValueError as error:
            raise TrainingError(f"{path} is no JSON: {error}.", stage="train", action=action) from error


def write_json(path: Path, value: Any) -> Path:
    """Write JSON to a temporary name and rename it: a reader sees the old file or the new one."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, path)
    return path


def read_json(path: Path) -> Any:
    """The content of a JSON file, or None when there is none that can be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
