"""Concept Neighborhood (FADE, CVPR 2025; science.md 1.2): the concepts whose pictures lie closest to the target's.

For each candidate, m pictures by the original model; each CLIP image feature L2-normalised; class mean; cosine to the target's
mean; the top K. The pictures of the whole vocabulary are made once per (base, sampler, seed), so every further target is free.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fade.base.directory import directory_sha256, refuse_pickles, resolve
from fade.cache import Cache
from fade.concepts import TOGETHER, Vocabulary, fill
from fade.config import NeighborhoodConfig
from fade.errors import BaseModelError, ConfigError
from fade.imaging import Preprocessor
from fade.source import source_sha256
from fade.studio import OnBatch, Studio


@dataclass(frozen=True)
class Neighborhood:
    """A target, its K neighbours (trained on) and the next ones (held out), with the cosines of the whole vocabulary.

    Of several targets that are erased together it is the union (``joint``); ``parts`` are then the single ones.
    """

    target: str
    neighbours: list[str]
    heldout: list[str]
    names: tuple[str, ...]
    matrix: np.ndarray  # (N, N) cosines of class means, vocabulary order
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
        row = self.matrix[[self.names.index(target) for target in self.targets]].max(axis=0)
        order = np.argsort(-row, kind="stable")
        return {self.names[i]: float(row[i]) for i in order if self.names[i] not in self.targets}

    def to_json(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "targets": self.targets,
            "left_out": list(self.left_out),
            "neighbours": self.neighbours,
            "heldout": self.heldout,
            "similarities": {k: round(v, 6) for k, v in self.similarities.items()},
            "names": list(self.names),
            "matrix": np.round(self.matrix.astype(float), 6).tolist(),
            "cache_key": self.cache_key,
            "seed": self.seed,
            "images_per_concept": self.images_per_concept,
        }


class ImageEncoder:
    """A CLIP: L2-normalised features of pictures (what mines the neighbours) and of texts (what the CLIP score compares them with)."""

    def __init__(self, where: str, device: torch.device | str = "cpu") -> None:
        from transformers import CLIPModel

        home = resolve(where, "clip")
        refuse_pickles(home, "clip")
        try:
            self.model: Any = CLIPModel.from_pretrained(home, local_files_only=True, use_safetensors=True)
        except Exception as error:  # transformers raises many kinds
            raise BaseModelError(f"{where} is no CLIP that loads: {error}.", stage="clip", action="see data.clip.") from error
        self.model.to(device).eval().requires_grad_(False)
        self.device, self._home, self._where = device, home, where
        self.prepare = Preprocessor(home, self.model.config.vision_config.image_size)
        self.sha256 = directory_sha256(home)

    @torch.inference_mode()
    def __call__(self, pixels: np.ndarray, batch_size: int = 256) -> Tensor:
        """uint8 (B, H, W, 3) -> float32 (B, D), unit length, on the CPU."""
        parts = (self.prepare(pixels[i : i + batch_size]).to(self.device) for i in range(0, len(pixels), batch_size))
        return torch.cat([F.normalize(_tensor(self.model.get_image_features(pixel_values=x)), dim=-1).cpu() for x in parts])

    @cached_property
    def tokenizer(self) -> Any:
        """Read when the first text comes: mining needs none. Raises BaseModelError when the directory has none that loads."""
        from transformers import CLIPTokenizer

        action = "see data.clip; it needs the CLIP's tokenizer.json."
        if not any((self._home / name).is_file() for name in ("tokenizer.json", "vocab.json")):  # transformers makes an empty one then
            raise BaseModelError(f"{self._where} has no tokenizer.", stage="clip", action=action)
        try:
            return CLIPTokenizer.from_pretrained(self._home, local_files_only=True)
        except Exception as error:  # transformers raises many kinds
            raise BaseModelError(f"{self._where} has no tokenizer that loads: {error}.", stage="clip", action=action) from error

    @torch.inference_mode()
    def text(self, prompts: Sequence[str]) -> Tensor:
        """float32 (B, D), unit length, on the CPU; a prompt that is longer than the tower's positions is cut."""
        length = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenizer(list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        out = self.model.get_text_features(input_ids=tokens["input_ids"].to(self.device))
        return F.normalize(_tensor(out), dim=-1).cpu()


def _tensor(out: Any) -> Tensor:
    """What a tower returns: the features, or (newer transformers) an output that holds them."""
    features: Tensor = out if isinstance(out, Tensor) else out.pooler_output
    return features


def mine(
    target: str,
    vocabulary: Vocabulary,
    studio: Studio,
    encoder: ImageEncoder,
    config: NeighborhoodConfig,
    on_batch: OnBatch = lambda done, total: None,
    also: Sequence[str] = (),
) -> Neighborhood:
    """Mine the neighbourhood of ``target``. ``also``: what else is erased, and hence is nobody's neighbour.

    Raises UnknownNameError for a target outside the vocabulary and ConfigError when K and k_heldout exceed it.
    """
    erased = {target, *also}
    for name in (target, *also):
        vocabulary.index(name)
    wanted, others = config.k + config.k_heldout, len(vocabulary) - len(erased)
    if wanted > others:
        what = f"neighborhood.k + neighborhood.k_heldout = {wanted}, but {target!r} has only {others} candidates."
        raise ConfigError(what, stage="mine", action="lower neighborhood.k or neighborhood.k_heldout.")
    seeds = [config.seed + i for i in range(config.images_per_concept)]
    prompts = {name: fill(studio.sampler.prompt, name) for name in vocabulary.names}
    keys = {name: studio.key(prompt, seeds) for name, prompt in prompts.items()}
    key = Cache.key(pictures=list(keys.values()), clip=encoder.sha256, code=source_sha256("imaging.py", "neighborhood.py"))
    held = studio.cache.get("similarities", key)
    if held is None:
        drawn = studio.draw(list(prompts.values()), seeds, on_batch=on_batch)
        pixels = np.concatenate([drawn[prompts[name]].pixels for name in vocabulary.names])
        held = {"matrix": similarity_matrix(encoder(pixels), len(vocabulary))}
        studio.cache.put("similarities", key, held)
    matrix = held["matrix"].numpy()
    row = matrix[vocabulary.index(target)].copy()
    row[vocabulary.index(target)] = -np.inf
    # A stable order, so that equal cosines fall in vocabulary order on every machine.
    order = [vocabulary.names[i] for i in np.argsort(-row, kind="stable")]
    ranked = [name for name in order if name not in erased]
    return Neighborhood(
        target=target,
        neighbours=ranked[: config.k],
        heldout=ranked[config.k : wanted],
        names=vocabulary.names,
        matrix=matrix,
        cache_key=key,
        seed=config.seed,
        images_per_concept=config.images_per_concept,
        picture_keys=keys,
        left_out=tuple(name for name in order[: config.k] if name in also),
    )


def joint(hoods: Sequence[Neighborhood]) -> Neighborhood:
    """The neighbourhoods of several targets as one: the union of the neighbours, and of the held-out ones that are no neighbour."""
    if len(hoods) == 1:
        return hoods[0]
    first = hoods[0]
    neighbours = list(dict.fromkeys(name for hood in hoods for name in hood.neighbours))
    heldout = [name for name in dict.fromkeys(n for hood in hoods for n in hood.heldout) if name not in neighbours]
    return dataclasses.replace(
        first,
        target=TOGETHER.join(hood.target for hood in hoods),
        neighbours=neighbours,
        heldout=heldout,
        left_out=tuple(dict.fromkeys(name for hood in hoods for name in hood.left_out)),
        joined=tuple(hoods),
    )


def similarity_matrix(features: Tensor, concepts: int) -> Tensor:
    """Cosines (N, N) between class means of unit features (N * m, D), m consecutive rows a concept."""
    means = F.normalize(features.unflatten(0, (concepts, -1)).mean(1), dim=-1)
    return means @ means.T


def training_latents(hood: Neighborhood, studio: Studio) -> list[tuple[Tensor, Tensor]]:
    """The mined clean latents as training data: of each target its own (m, C, h, w) and its neighbours' (K, m, C, h, w)."""
    seeds = [hood.seed + i for i in range(hood.images_per_concept)]
    out = []
    for part in hood.parts:
        prompts = [fill(studio.sampler.prompt, name) for name in (part.target, *part.neighbours)]
        drawn = studio.draw(prompts, seeds)
        own, *others = (drawn[prompt].latents for prompt in prompts)
        out.append((own, torch.stack(others) if others else own.new_empty((0, *own.shape))))
    return out
