"""One build of a world: its work folder, in which finished stages are kept, and what its stages share."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from transformers import (
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5EncoderModel,
    T5TokenizerFast,
)

from fade.config import PretrainConfig
from fade.judges.supervised_loop import Logs, Training
from fade.models.layout import LOCAL
from fade.pretrain import drawings, text
from fade.pretrain.families import FAMILIES
from fade.pretrain.sets import Sets
from fade.utils.files import write_json
from fade.utils.hashing import fingerprint

OnStage = Callable[[str, int, int, Logs], None]
SEEDS = (
    "text",
    "text_2",
    "t5",
    "sight",
    "codec",
    "autoencoder",
    "judge",
    "styles",
    "unet",
    "unet_xl",
    "transformer",
    "second",
    "unet_restart",
    "unet_restart_2",
    "text_spelled",
    "text_2_spelled",
    "t5_spelled",
    "unet_restart_3",
)
"""Each training's seed is its place here after the world's own."""


def spelled(stage: str) -> str:
    """The stage in which the text tower of another one learns to read past spelled words."""
    return f"{stage}_spelled"


@dataclass
class World:
    """One build: its work folder (resumable), its settings, and what follows its progress."""

    work: Path
    family: str
    config: PretrainConfig
    parts: Path | None = None
    """A finished world whose parts are taken as they are."""
    on_step: OnStage = lambda stage, step, steps, logs: None

    keys: dict[str, str] = field(default_factory=dict)
    """Stage -> hash of what it was made from, its inputs' hashes included."""

    def stage(
        self, name: str, make: Callable[[Path], Any], settings: Sequence[str] = (), inputs: Sequence[str] = ()
    ) -> Path:
        """Run ``make(folder)`` unless it is finished, of the same settings and inputs; returns the folder."""
        folder, seal = self.work / name, self.work / f"{name}.done.json"
        values = self.config.model_dump(mode="json")
        made_from = {"stage": name, "seed": self.config.seed, "settings": {s: values[s] for s in settings}}
        key = fingerprint({**made_from, "inputs": [self.keys[i] for i in inputs]})
        self.keys[name] = key
        if seal.exists() and folder.is_dir() and json.loads(seal.read_text(encoding="utf-8"))["key"] == key:
            self.on_step(name, 1, 1, {})
            return folder
        seal.unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        make(folder)
        write_json(seal, {"key": key})
        return folder

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """Of the vocabulary."""
        return drawings.load_recipe()

    @property
    def packages(self) -> Path:
        """Folder of the unpacked npm packages."""
        return self.config.packages or self.work / "packages"

    @cached_property
    def sets(self) -> Sets:
        """Of the finished stages ``drawings``, ``sprites`` and ``corpus``."""
        return Sets.load(self.work, self.config)

    @cached_property
    def meaning(self) -> text.Meaning:
        """Of every name of the vocabulary and of the corpus."""
        names = sorted({*self.sets.names, *self.sets.corpus_names})
        return text.Meaning(text.teacher_embeddings(names, self.config.teacher))

    def model(self, stage: str) -> Path:
        """Where a finished stage left its model."""
        return self.work / stage / "model"

    @property
    def vae(self) -> Path:
        """The autoencoder: of the world that is made, or of the one that is shared."""
        return self.work / "shared" / "base" / "vae" if self.parts else self.model("autoencoder")

    def tokenizer(self, stage: str) -> Any:
        """The tokenizer of a text tower's stage."""
        home = self.work / "tokenizer"
        if stage == "t5":
            return T5TokenizerFast.from_pretrained(home / "t5", **LOCAL)
        return CLIPTokenizer.from_pretrained(home / "clip", **LOCAL)

    def encoders(self, *, finished: bool = False) -> dict[str, Any]:
        """Frozen text encoders and tokenizers of the family, by part. finished: as the base has them; the
        denoiser of ``sd`` is trained with the tower of stage ``text``."""
        family, parts = FAMILIES[self.family], dict[str, Any]()
        for name, stage in family.texts.items():
            shared = stage == "text" and self.parts
            own = self.model("text" if stage == "text" and not finished else spelled(stage))
            home = self.work / "shared" / "base" / "clip" if shared else own
            owner = CLIPTextModelWithProjection if name in family.pooled else CLIPTextModel
            tower = (T5EncoderModel if stage == "t5" else owner).from_pretrained(home, **LOCAL)
            parts[name] = tower.float().eval().requires_grad_(False)
            parts[name.replace("text_encoder", "tokenizer")] = self.tokenizer(stage)
        return parts

    def training(self, stage: str) -> Training:
        """The training of a stage; no two share a seed."""
        identity = {"stage": self.keys[stage]}
        seed = self.config.seed + SEEDS.index(stage)
        return Training(self.work / stage, seed, partial(self.on_step, stage), identity)
