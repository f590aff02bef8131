"""What the attackers have: real pictures as clean latents, of the target, of a control concept, and of
unrelated ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fade.config import AttackConfig
from fade.data.images import read_pictures
from fade.data.manifest import MANIFEST, read_manifest
from fade.data.vocabulary import Vocabulary
from fade.errors import DataError
from fade.models import Base
from fade.utils.seeds import named_seed


@dataclass(frozen=True)
class Material:
    """Clean, scaled latents of real training pictures, on the CPU."""

    target: str
    control: str
    """The random-control concept, by seed, of the families that are not the target's."""
    pictures: dict[str, Tensor]
    """Of the target and of the control, each (m, C, h, w)."""
    unrelated: dict[str, Tensor]
    """Of concepts outside the target's family, the control aside: name -> (m, C, h, w)."""
    names: tuple[str, ...]
    """The whole vocabulary."""


def gather(base: Base, folder: Path, target: str, config: AttackConfig) -> Material:
    """Read and encode what all attacks on ``target`` need, from the pictures and the manifest in ``folder``;
    the same seed gives the same concepts for every method.

    Raises UnknownNameError for a target outside the vocabulary, DataError when the vocabulary has not two
    concepts besides, or a concept no training picture."""
    vocabulary = Vocabulary.from_file(folder / MANIFEST)
    family = vocabulary.family(target)
    others = [name for name in vocabulary.names if name != target]
    outside = [name for name in others if vocabulary.family(name) != family]
    pool = outside if len(outside) > 1 else others  # a vocabulary of one family has only look-alikes to offer
    if len(pool) < 2:
        needed = "a control and an unrelated concept"
        what = f"the attacks on {target!r} need {needed}; the vocabulary has {len(vocabulary)} in all."
        raise DataError(what, stage="attack", action="add concepts to data.images.")
    order = np.random.default_rng(named_seed(config.seed, "control", target)).permutation(len(pool))
    control, *unrelated = [pool[i] for i in order[: config.unrelated + 1]]
    latents = real_latents(base, folder, [target, control, *unrelated])
    pictures = {name: latents[name] for name in (target, control)}
    return Material(target, control, pictures, {name: latents[name] for name in unrelated}, vocabulary.names)


def real_latents(base: Base, folder: Path, concepts: Sequence[str]) -> dict[str, Tensor]:
    """Clean, scaled latents (m, C, h, w), float32 on the CPU, of each concept's training pictures in the
    manifest's order. Raises DataError for a concept without one."""
    frame = read_manifest(folder / MANIFEST)
    frame = frame[(frame["split"] == "train") & frame["concept"].isin(concepts)]
    if missing := [name for name in concepts if name not in set(frame["concept"])]:
        what = f"{folder / MANIFEST} has no training picture of {missing[0]!r}."
        raise DataError(what, stage="attack", action="add one, or attack another concept.")
    latents = base.encode_pictures(read_pictures([folder / name for name in frame["path"]]))
    owner = frame["concept"].to_numpy()
    return {name: latents[torch.from_numpy(np.flatnonzero(owner == name))] for name in concepts}
