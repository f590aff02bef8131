"""The pictures and captions that the miniatures are trained on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fade.data.manifest import MANIFEST, read_manifest


@dataclass(frozen=True)
class Sets:
    """The drawings as arrays: the vocabulary's training and held-out ones, and the wide corpus."""

    train: Tensor  # (N, 64, 64, 3) uint8
    train_names: list[str]
    train_styles: list[str]
    train_families: list[str]
    heldout: Tensor
    heldout_names: list[str]
    wide: Tensor
    wide_names: list[str]
    wide_styles: list[str]
    labels: list[str]

    @classmethod
    def load(cls, drawn: Path, corpus: Path) -> Sets:
        from fade.data.images import read_pictures

        frame = read_manifest(drawn / MANIFEST)
        pixels = torch.from_numpy(read_pictures([drawn / p for p in frame["path"]]))
        seen = (frame["split"] == "train").to_numpy(copy=True)
        words = json.loads((corpus / "words.json").read_text(encoding="utf-8"))
        return cls(
            pixels[seen],
            list(frame["concept"][seen]),
            list(frame["style"][seen]),
            list(frame["family"][seen]),
            pixels[~seen],
            list(frame["concept"][~seen]),
            torch.from_numpy(np.load(corpus / "pixels.npy", allow_pickle=False)),
            words["names"],
            words["styles"],
            list(dict.fromkeys(frame["concept"])),
        )

    @property
    def names(self) -> list[str]:
        """Of the pictures of ``mixed``."""
        return [*self.train_names, *self.wide_names]

    @property
    def styles(self) -> list[str]:
        """Of the pictures of ``mixed``."""
        return [*self.train_styles, *self.wide_styles]

    def mixed(self, vocabulary_share: float) -> tuple[Tensor, Tensor]:
        """All training pictures and the probability of each, with the given share for the vocabulary's."""
        n, m = len(self.train), len(self.wide)
        shares = torch.cat(
            [torch.full((n,), vocabulary_share / n), torch.full((m,), (1 - vocabulary_share) / m)]
        )
        return torch.cat([self.train, self.wide]), shares
