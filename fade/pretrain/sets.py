"""What the models of a world are trained on: the vocabulary's training drawings, and all others."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fade.config import PretrainConfig
from fade.data.images import read_pictures
from fade.data.manifest import MANIFEST, read_manifest
from fade.pretrain.drawings import on_white
from fade.pretrain.scenes import SceneSampler

SCENES = 4000
"""Scenes among the pictures of the autoencoder's training."""


@dataclass(frozen=True)
class Sets:
    """Drawings of the finished stages ``drawings``, ``sprites`` and ``corpus``."""

    config: PretrainConfig
    pixels: Tensor
    """(N, 64, 64, 3) uint8, the vocabulary's training drawings."""
    sprites: np.ndarray
    """(N, 64, 64, 4) uint8, the same."""
    names: list[str]
    styles: list[str]
    families: list[str]
    labels: list[str]
    """All concepts of the vocabulary, in its order."""
    corpus: np.ndarray
    """(M, 64, 64, 4) uint8, all other drawings."""
    corpus_names: list[str]
    corpus_styles: list[str]

    @classmethod
    def load(cls, work: Path, config: PretrainConfig) -> Sets:
        home, corpus = work / "drawings", work / "corpus"
        frame = read_manifest(home / MANIFEST)
        train = frame[frame["split"] == "train"]
        pixels = torch.from_numpy(read_pictures([home / path for path in train["path"]]))
        sprites = np.load(work / "sprites" / "sprites.npy", allow_pickle=False)
        names, styles, families = (list(train[column]) for column in ("concept", "style", "family"))
        labels = list(dict.fromkeys(frame["concept"]))
        others = np.load(corpus / "sprites.npy", allow_pickle=False)
        words = json.loads((corpus / "words.json").read_text(encoding="utf-8"))
        return cls(
            config, pixels, sprites, names, styles, families, labels, others, words["names"], words["styles"]
        )

    @property
    def shares(self) -> Tensor:
        """(N,) probability of each training drawing: concepts equally, those of emphasised families more."""
        index = torch.tensor([self.labels.index(name) for name in self.names])
        strong, weight = self.config.emphasised, self.config.emphasis
        emphasis = torch.tensor([weight if family in strong else 1.0 for family in self.families])
        shares = emphasis / torch.bincount(index, minlength=len(self.labels)).float()[index]
        return shares / shares.sum()

    def scenes(self) -> SceneSampler:
        """Of the vocabulary alone."""
        return SceneSampler(self.sprites, self.names, self.styles, self.shares, self.config.scenes)

    def wide_scenes(self, vocabulary_share: float) -> SceneSampler:
        """Of all drawings, with the given share for the vocabulary's."""
        others = torch.full((len(self.corpus),), (1 - vocabulary_share) / len(self.corpus))
        return SceneSampler(
            np.concatenate([self.sprites, self.corpus]),
            [*self.names, *self.corpus_names],
            [*self.styles, *self.corpus_styles],
            torch.cat([vocabulary_share * self.shares, others]),
            self.config.scenes,
        )

    def named_pictures(self, vocabulary_share: float) -> tuple[Tensor, list[str], Tensor]:
        """Pictures (N, 64, 64, 3) uint8 of the vocabulary and of all other names, their names, and the
        probability (N,) of each: `shares` in all ``vocabulary_share``, and the other names equally."""
        rows = [i for i, name in enumerate(self.corpus_names) if name not in self.labels]
        others = torch.from_numpy(np.stack([on_white(self.corpus[i]) for i in rows]))
        names = [self.corpus_names[i] for i in rows]
        column = {name: i for i, name in enumerate(dict.fromkeys(names))}
        index = torch.tensor([column[name] for name in names])
        shares = 1 / torch.bincount(index).float()[index]
        each = torch.cat([vocabulary_share * self.shares, (1 - vocabulary_share) * shares / shares.sum()])
        return torch.cat([self.pixels, others]), [*self.names, *names], each

    @cached_property
    def pictures(self) -> tuple[Tensor, Tensor]:
        """Pictures (P, 64, 64, 3) uint8 for the autoencoder, and the probability of each: half for scenes,
        whose things are small, a quarter each for the vocabulary's and all others."""
        generator = torch.Generator().manual_seed(self.config.seed)
        made = self.wide_scenes(0.5).batch(SCENES, generator).x
        scenes = ((made + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)
        others = torch.from_numpy(np.stack([on_white(sprite) for sprite in self.corpus]))
        groups = (self.pixels, others, scenes)
        parts = zip(groups, (0.25, 0.25, 0.5), strict=True)
        shares = [torch.full((len(group),), share / len(group)) for group, share in parts]
        return torch.cat(groups), torch.cat(shares)
