"""Generate once: pictures and latents by prompt, made in large batches across prompts and kept by content."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fade.base import Base
from fade.cache import Cache
from fade.config import SamplerConfig

OnBatch = Callable[[int, int], None]


@dataclass(frozen=True)
class Pictures:
    """What one prompt gave: clean scaled latents (n, C, h, w) float32 and pictures (n, H, W, 3) uint8."""

    latents: Tensor
    pixels: np.ndarray
    key: str


class Studio:
    """A base, a sampler and a cache. ``generated`` counts the pictures that had to be made (0 = all came from the cache)."""

    def __init__(self, base: Base, sampler: SamplerConfig, cache: Cache) -> None:
        self.base, self.sampler, self.cache = base, sampler, cache
        self.generated = 0

    def key(self, prompt: str, seeds: Sequence[int], adapter: str = "") -> str:
        """Content key of one prompt's pictures; ``adapter`` is the sha256 of the active adapter, "" for the base."""
        # The batch size does not change what is drawn, only how fast.
        sampler = self.sampler.model_dump(mode="json", exclude={"batch_size", "prompt"})
        return Cache.key(base=self.base.sha256, adapter=adapter, sampler=sampler, prompt=prompt, seeds=list(seeds))

    def draw(
        self, prompts: Sequence[str], seeds: Sequence[int], adapter: str = "", on_batch: OnBatch = lambda done, total: None
    ) -> dict[str, Pictures]:
        """``len(seeds)`` pictures of each prompt, from the cache or made; the caller has set the adapter on or off."""
        out: dict[str, Pictures] = {}
        missing = []
        for prompt in dict.fromkeys(prompts):
            key = self.key(prompt, seeds, adapter)
            held = self.cache.get("pictures", key)
            if held is None:
                missing.append((prompt, key))
            else:
                out[prompt] = Pictures(held["latents"], held["pixels"].numpy(), key)
        if not missing:
            return out
        n = len(seeds)
        self.generated += n * len(missing)
        flat = [prompt for prompt, _ in missing for _ in range(n)]
        latents = self.base.sample(flat, list(seeds) * len(missing), self.sampler, on_batch)
        pixels = self.base.decode(latents)
        for place, (prompt, key) in enumerate(missing):
            part = slice(place * n, (place + 1) * n)
            self.cache.put("pictures", key, {"latents": latents[part].clone(), "pixels": torch.from_numpy(pixels[part].copy())})
            out[prompt] = Pictures(latents[part], pixels[part], key)
        return out
