"""What the attackers hold: real pictures as clean latents, of the target, of a control concept, and of
unrelated ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from fade.config import AttackConfig
from fade.data.manifest import MANIFEST
from fade.data.vocabulary import Vocabulary
from fade.errors import DataError
from fade.mining.real_pictures import real_latents, training_pictures
from fade.models.base import DiffusionModel
from fade.utils.hashing import fingerprint, sha256_of
from fade.utils.seeds import named_seed


@dataclass(frozen=True)
class Material:
    """Clean, scaled latents of real training pictures, on the CPU."""

    target: str
    control: str
    """The random-control concept: drawn by seed from the families that are not the target's."""
    pictures: dict[str, Tensor]
    """Of the target and of the control, each (m, C, h, w)."""
    unrelated: dict[str, Tensor]
    """Of concepts outside the target's family, the control aside: name -> (m, C, h, w)."""
    names: tuple[str, ...]
    """The whole vocabulary."""


def choose(folder: Path, target: str, config: AttackConfig) -> tuple[str, list[str]]:
    """The control concept and the unrelated ones of the attacks on ``target``: by seed, the same for every
    method.

    ``folder`` holds the pictures and their manifest. Raises UnknownNameError for a target outside the
    vocabulary, DataError when the vocabulary has not two concepts besides."""
    vocabulary = Vocabulary.from_file(folder / MANIFEST)
    family = vocabulary.family(target)
    others = [name for name in vocabulary.names if name != target]
    outside = [name for name in others if vocabulary.family(name) != family]
    pool = outside if len(outside) > 1 else others  # a vocabulary of one family has only look-alikes to offer
    if len(pool) < 2:
        what = (
            f"the attacks on {target!r} need a control and an unrelated concept; the vocabulary has "
            f"{len(vocabulary)} in all."
        )
        raise DataError(what, stage="attack", action="add concepts to data.images.")
    order = np.random.default_rng(named_seed(config.seed, "control", target)).permutation(len(pool))
    control, *unrelated = [pool[i] for i in order[: config.unrelated + 1]]
    return control, unrelated


def gather(base: DiffusionModel, folder: Path, target: str, config: AttackConfig) -> Material:
    """Read and encode what all attacks on ``target`` need. Raises what `choose` raises, and DataError for a
    concept without a training picture."""
    control, unrelated = choose(folder, target, config)
    latents = real_latents(base, folder, [target, control, *unrelated])
    pictures = {name: latents[name] for name in (target, control)}
    names = Vocabulary.from_file(folder / MANIFEST).names
    return Material(target, control, pictures, {name: latents[name] for name in unrelated}, names)


def pictures_sha256(folder: Path, target: str, config: AttackConfig) -> str:
    """Hash of the manifest and of all pictures that `gather` reads. Raises what `gather` raises."""
    control, unrelated = choose(folder, target, config)
    paths = training_pictures(folder, [target, control, *unrelated])["path"]
    return fingerprint([sha256_of(folder / MANIFEST), *(sha256_of(folder / path) for path in paths)])
