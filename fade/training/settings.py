"""All that one training needs as one frozen value, and the key under which its result may be reused."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from fade.config import MeshConfig, MethodConfig, ModelConfig, Section, TrainConfig
from fade.config.section import Affects
from fade.erasers.base import get_eraser
from fade.provenance.fingerprints import code_sha256, method_components, versions
from fade.utils.hashing import fingerprint

ADAPTER, HISTORY, DONE, CHECKPOINTS = "adapter.safetensors", "history.json", "done.json", "checkpoints"
"""The files of an out folder. ``done.json`` is written last and holds the adapter's hash: without it the
adapter does not count."""

CODE = ("adapters", "determinism", "models", "seeds", "training", "vocabulary")
"""The code (components of `fade.provenance.fingerprints`) that decides the weights of an adapter, beside that
of its method. It is part of the key, so that no result of an earlier loss is reused."""
LIBRARIES = ("accelerate", "diffusers", "peft", "torch", "transformers")
"""So are the versions of these."""
ANCHOR_KNOBS = {"adjacency_weight"}
"""Knobs that method.anchors reads, whatever the method."""


class ErasureTarget(Section):
    """One concept to erase, with what its steps need."""

    target: str
    """The concept."""
    neighbours: tuple[str, ...] = ()
    """Its K neighbours, nearest first."""
    family: str = ""
    """A broader concept that is none of the judged ones, for the methods that take its prompt; empty: they
    take the null prompt."""


class TrainingSettings(Section):
    """One training. Paths are left out of the key, the hashes of what they name are in it."""

    base: Annotated[str, Affects("nothing")]
    """Directory (or hub id) of the original model."""
    base_sha256: str
    """What ``load_model(base).sha256`` must be."""
    model: ModelConfig = ModelConfig()
    """How it is held in memory."""
    subjects: tuple[ErasureTarget, ...] = Field(min_length=1)
    """The concepts to erase; with several, the steps take turns."""
    heldout: tuple[str, ...] = ()
    """Concepts by which the model will be judged and which no prompt of the training may name (methods that
    draw words)."""
    prompt: str
    """Template with the slot {concept}."""
    negative_prompt: str = ""
    """Prompt of the unconditional branch: the null prompt of the losses."""
    latents: Annotated[Path, Affects("nothing")]
    """safetensors with ``I.target`` (m, C, h, w) and ``I.neighbours`` (K, m, C, h, w) of subject I, from 0:
    clean, scaled latents by the original model."""
    latents_sha256: str
    """Hash of that file."""
    mesh: MeshConfig = MeshConfig()
    method: MethodConfig = Field(default_factory=MethodConfig)
    train: TrainConfig = TrainConfig()
    provenance: dict[str, str] = Field(default_factory=dict)
    """Goes into the adapter's header as ``fade.<key>``; hence no times in it."""
    out: Annotated[Path, Affects("nothing")]
    """Folder of the result."""

    def key(self) -> str:
        """Hash of all that decides the adapter's weights: the code and the libraries too.

        No path, and of its header neither the commit nor the hash of all parameters: what they change that
        matters is here."""
        job = self.key_fields("training")
        for name in ("commit", "params_sha256"):
            job["provenance"].pop(name, None)
        eraser = get_eraser(self.method.name, self.method.variant)  # the knobs of the others decide nothing
        knobs = set(eraser.config.model_fields) | ANCHOR_KNOBS | {"name", "variant"}
        job["method"] = {name: value for name, value in job["method"].items() if name in knobs}
        code = code_sha256(*CODE, *method_components(self.method.name))
        return fingerprint({"job": job, "code": code, "libraries": versions(LIBRARIES)})
