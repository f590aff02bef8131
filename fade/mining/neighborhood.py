"""Concept Neighborhood (FADE, CVPR 2025, arXiv 2503.19783): the concepts whose pictures lie closest to the
target's.

For each candidate, m pictures by the original model; each CLIP image feature L2-normalised; class mean;
cosine to the target's mean; the top K. The pictures of the whole vocabulary are made once per (base, sampler,
seed), so every further target is free."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fade.config import NeighborhoodConfig
from fade.data.vocabulary import TOGETHER, Vocabulary, fill
from fade.errors import ConfigError
from fade.generation.cache import Cache
from fade.generation.generator import ImageGenerator, OnBatch
from fade.generation.picture_checks import flat, require_pictures
from fade.mining.image_encoder import ImageEncoder
from fade.models.prompts import require_distinct, require_whole
from fade.provenance.fingerprints import code_sha256
from fade.utils.seeds import consecutive_seeds

STAGE = "mine"
OTHERS = 6
"""Concepts that are neither neighbours nor held out, in a record and its picture."""
CODE = ("images", "mining", "pictures")
"""The code (components of `fade.provenance.fingerprints`) that makes similarities of pictures; that of the
pictures is in their keys."""


@dataclass(frozen=True)
class Neighborhood:
    """A target, its K neighbours (trained on) and the next ones (held out), with the mean feature of each
    concept. Of several targets that are erased together it is the union (``joint``) of ``parts``."""

    target: str
    neighbours: list[str]
    heldout: list[str]
    names: tuple[str, ...]
    means: np.ndarray  # (N, D) float32, unit class means, vocabulary order
    cache_key: str
    seed: int
    images_per_concept: int
    picture_keys: dict[str, str] = field(default_factory=dict)  # concept -> cache key of its mined pictures
    left_out: tuple[str, ...] = ()  # targets that would have been neighbours of one another
    joined: tuple[Neighborhood, ...] = ()

    @property
    def parts(self) -> tuple[Neighborhood, ...]:
        """The neighbourhood of each target."""
        return self.joined or (self,)

    @property
    def targets(self) -> list[str]:
        return [part.target for part in self.parts]

    @property
    def similarities(self) -> dict[str, float]:
        """Cosine of every other concept to the target (to the nearest of several), descending."""
        targets = {*self.targets}
        at = [i for i, name in enumerate(self.names) if name in targets]
        row = (self.means @ self.means[at].T).max(axis=1)
        order = np.argsort(-row, kind="stable")
        return {self.names[i]: float(row[i]) for i in order if self.names[i] not in targets}

    def cosines(self, names: Sequence[str]) -> np.ndarray:
        """(n, n) float64 between the class means of ``names``. Raises KeyError for one outside of them."""
        place = {name: i for i, name in enumerate(self.names)}
        chosen = self.means[[place[name] for name in names]].astype(float)
        return np.asarray(chosen @ chosen.T)

    @property
    def shown(self) -> list[str]:
        """The targets, neighbours, held-out ones, and OTHERS of the rest, sampled evenly along their
        ranking, so that near and far both are there."""
        first = [*self.targets, *self.neighbours, *self.heldout]
        rest = [name for name in self.similarities if name not in {*first}]
        at = np.linspace(0, len(rest) - 1, min(OTHERS, len(rest))).round().astype(int)
        return list(dict.fromkeys([*first, *(rest[i] for i in at)]))

    def to_json(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "targets": self.targets,
            "left_out": list(self.left_out),
            "neighbours": self.neighbours,
            "heldout": self.heldout,
            "similarities": {k: round(v, 6) for k, v in self.similarities.items()},
            "names": self.shown,
            "matrix": np.round(self.cosines(self.shown), 6).tolist(),
            "cache_key": self.cache_key,
            "seed": self.seed,
            "images_per_concept": self.images_per_concept,
        }


def mine(
    target: str,
    vocabulary: Vocabulary,
    generator: ImageGenerator,
    encoder: ImageEncoder,
    config: NeighborhoodConfig,
    on_batch: OnBatch = lambda done, total: None,
    also: Sequence[str] = (),
) -> Neighborhood:
    """Mine the neighbourhood of ``target``. ``also``: what else is erased, and hence is nobody's neighbour.

    Raises UnknownNameError for a target outside the vocabulary, ConfigError when K and k_heldout exceed it,
    UsageError for prompts that the model does not read whole or not apart, BaseModelError for pictures that
    are none."""
    erased = {target, *also}
    for name in (target, *also):
        vocabulary.index(name)
    needed, others = config.k + config.k_heldout, len(vocabulary) - len(erased)
    if needed > others:
        sizes = f"neighborhood.k + neighborhood.k_heldout = {needed}"
        what = f"{sizes}, but {target!r} has only {others} candidates."
        raise ConfigError(what, stage=STAGE, action="lower neighborhood.k or neighborhood.k_heldout.")
    seeds = consecutive_seeds(config.seed, config.images_per_concept)
    prompts = {name: fill(generator.sampler.prompt, name) for name in vocabulary.names}
    require_distinct(generator.base, generator.sampler.prompt, vocabulary.names, (target, *also), STAGE)
    require_whole(generator.base, [generator.sampler.negative_prompt], STAGE)
    keys = {name: generator.key(prompt, seeds) for name, prompt in prompts.items()}
    key = Cache.key(pictures=list(keys.values()), clip=encoder.sha256, code=code_sha256(*CODE))
    stored = generator.cache.get("means", key)
    if stored is None:
        stored = class_means(list(prompts.values()), seeds, generator, encoder, on_batch)
        generator.cache.put("means", key, stored)
    of_prompt = dict(zip(prompts.values(), stored["flat"].numpy(), strict=True))
    require_pictures(of_prompt, [prompts[name] for name in (target, *also)], STAGE)
    means = stored["means"].numpy()
    order = nearest(means, vocabulary.index(target), needed + len(also))
    ranked = [name for name in (vocabulary.names[i] for i in order) if name not in erased]
    return Neighborhood(
        target=target,
        neighbours=ranked[: config.k],
        heldout=ranked[config.k : needed],
        names=vocabulary.names,
        means=means,
        cache_key=key,
        seed=config.seed,
        images_per_concept=config.images_per_concept,
        picture_keys=keys,
        left_out=tuple(vocabulary.names[i] for i in order[: config.k] if vocabulary.names[i] in also),
    )


def nearest(means: np.ndarray, target: int, count: int) -> list[int]:
    """The ``count`` rows of unit vectors (N, D) that are nearest to row ``target``, which is none of them,
    descending; equal ones in their order."""
    cosines = means @ means[target]
    cosines[target] = -np.inf
    least = np.partition(cosines, -count)[-count] if count < len(cosines) else -np.inf
    found = np.flatnonzero(cosines >= least)
    found = found[np.argsort(-cosines[found], kind="stable")][:count]
    return [int(i) for i in found if i != target]


def class_means(
    prompts: Sequence[str],
    seeds: Sequence[int],
    generator: ImageGenerator,
    encoder: ImageEncoder,
    on_batch: OnBatch = lambda done, total: None,
) -> dict[str, Tensor]:
    """``means`` (N, D) float32, unit, of the features of each prompt's pictures, and ``flat`` (N, m), which
    of them are of one colour. Pictures are made and read a part at a time: memory does not grow with N."""
    means, blank = [], []
    for images in generator.parts(prompts, seeds, on_batch=on_batch):
        pixels = np.concatenate([one.pixels for one in images.values()])
        means.append(unit_means(encoder(pixels), len(images)))
        blank.append(torch.from_numpy(flat(pixels)).unflatten(0, (len(images), -1)))
    return {"means": torch.cat(means), "flat": torch.cat(blank)}


def joint(neighborhoods: Sequence[Neighborhood]) -> Neighborhood:
    """The neighbourhoods of several targets as one: the union of the neighbours, and of the held-out ones
    that are no neighbour."""
    if len(neighborhoods) == 1:
        return neighborhoods[0]
    neighbours, heldout, left_out = (
        list(dict.fromkeys(name for names in several for name in names))
        for several in zip(
            *((one.neighbours, one.heldout, one.left_out) for one in neighborhoods), strict=True
        )
    )
    return dataclasses.replace(
        neighborhoods[0],
        target=TOGETHER.join(one.target for one in neighborhoods),
        neighbours=neighbours,
        heldout=[name for name in heldout if name not in neighbours],
        left_out=tuple(left_out),
        joined=tuple(neighborhoods),
    )


def vectors_of(cosines: np.ndarray) -> np.ndarray:
    """Vectors (N, N) whose cosines are the given ones (N, N): a record has these alone."""
    values, vectors = np.linalg.eigh((cosines + cosines.T) / 2)
    return np.asarray(vectors * np.sqrt(np.clip(values, 0, None)))


def unit_means(features: Tensor, concepts: int) -> Tensor:
    """Unit class means (N, D) of unit features (N * m, D), m consecutive rows a concept."""
    return F.normalize(features.unflatten(0, (concepts, -1)).mean(1), dim=-1)


def training_latents(neighborhood: Neighborhood, generator: ImageGenerator) -> list[tuple[Tensor, Tensor]]:
    """The mined clean latents of each target: its own (m, C, h, w) and its neighbours' (K, m, C, h, w)."""
    seeds = consecutive_seeds(neighborhood.seed, neighborhood.images_per_concept)
    out = []
    for part in neighborhood.parts:
        prompts = [fill(generator.sampler.prompt, name) for name in (part.target, *part.neighbours)]
        images = generator.generate(prompts, seeds)
        own, *others = (images[prompt].latents for prompt in prompts)
        out.append((own, torch.stack(others) if others else own.new_empty((0, *own.shape))))
    return out
