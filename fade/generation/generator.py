"""Generate once: pictures and latents by prompt, made in large batches across prompts and kept by content."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fade.config import SamplerConfig
from fade.errors import JobError
from fade.generation.cache import Cache
from fade.generation.claims import claimed
from fade.generation.picture_checks import flat, require_finite, require_pictures
from fade.models.base import DiffusionModel
from fade.models.sampling import sample
from fade.provenance.fingerprints import code_sha256, versions

OnBatch = Callable[[int, int], None]
Workers = Callable[[Sequence[str], Sequence[int], str, OnBatch], int]
"""Other processes that write the missing pictures of prompts and seeds to the cache, given the adapter's
sha256; the result is the number of pictures made."""
STAGE = "generate"
PART = 512
"""Pictures that are in memory at once where many are read, and no more are needed together."""
WAIT = 0.2
"""Seconds between two looks at batches that other processes are making."""
CODE = ("determinism", "generation", "models", "seeds", "vocabulary")
"""The code (components of `fade.provenance.fingerprints`) that decides a picture."""


@dataclass(frozen=True)
class Pictures:
    """What one prompt gave: clean scaled latents (n, C, h, w) float32 and pictures (n, H, W, 3) uint8."""

    latents: Tensor
    pixels: np.ndarray
    key: str


class ImageGenerator:
    """A base, a sampler and a cache.

    ``generated`` counts the pictures that had to be made (0 = all came from the cache), ``seconds`` the time
    that this took. ``workers``: who makes what the cache lacks; None: this process."""

    def __init__(self, base: DiffusionModel, sampler: SamplerConfig, cache: Cache) -> None:
        self.base, self.sampler, self.cache = base, sampler, cache
        self.generated, self.seconds = 0, 0.0
        self.workers: Workers | None = None

    def key(self, prompt: str, seeds: Sequence[int], adapter: str = "") -> str:
        """Content key of one prompt's pictures; ``adapter`` is the sha256 of the active adapter, "" for the
        base."""
        return Cache.key(
            base=self.base.sha256,
            dtype=str(self.base.dtype),
            adapter=adapter,
            # The batch size changes the last bits alone.
            sampler=self.sampler.model_dump(mode="json", exclude={"batch_size", "prompt"}),
            prompt=prompt,
            seeds=list(seeds),
            made_by={"code": code_sha256(*CODE), **versions(("diffusers", "torch", "transformers"))},
        )

    def generate(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        adapter: str = "",
        on_batch: OnBatch = lambda done, total: None,
    ) -> dict[str, Pictures]:
        """``len(seeds)`` pictures of each prompt, from the cache or made; the caller has set the adapter on
        or off.

        Stored batch by batch, so that an interrupted call goes on where it was. A batch with a gap is made
        again whole: a picture's last bits may depend on its batch, and the same call must give the same bytes
        whatever the cache has. Raises as `require_finite`; what is not finite is not stored. Raises as
        `require_pictures` when half of all pictures of the call, those of the cache included, are of one
        colour."""
        batches = self.batches(prompts, seeds)
        out, gaps = self._read(batches, seeds, adapter)
        total, done = sum(map(len, gaps)) * len(seeds), 0
        if gaps and self.workers is not None:
            self._have_made(self.workers, batches, seeds, adapter, lambda done, _: on_batch(done, total))
            out, gaps = self._read(batches, seeds, adapter)
            if gaps:
                lost = next(prompt for prompt in gaps[0] if prompt not in out)
                what = f"the job ended, but {self.cache.root} lacks the pictures of {lost!r}."
                action = "let all machines see the same cache and the same code, then run it again."
                raise JobError(what, stage=STAGE, action=action)
        for batch in gaps:
            missing = [prompt for prompt in batch if prompt not in out]
            out |= self._make(batch, missing, seeds, adapter)
            done += len(batch) * len(seeds)
            on_batch(done, total)
        require_pictures({prompt: flat(one.pixels) for prompt, one in out.items()}, (), STAGE, adapter)
        return out

    def parts(
        self, prompts: Sequence[str], seeds: Sequence[int], on_batch: OnBatch = lambda done, total: None
    ) -> Iterator[dict[str, Pictures]]:
        """As `generate` of the base, PART pictures and more at a time, in the prompts' order: the same
        batches, and memory for one part alone. Raises as `generate`, for each part."""
        batches = self.batches(prompts, seeds)
        gaps = [batch for batch in batches if not all(self._is_there(prompt, seeds) for prompt in batch)]
        total, done = sum(map(len, gaps)) * len(seeds), 0
        if gaps and self.workers is not None:  # all of them at once: a job has a start
            self._have_made(self.workers, batches, seeds, "", lambda done, _: on_batch(done, total))
        each = max(1, PART // (len(batches[0]) * len(seeds)))
        for i in range(0, len(batches), each):
            part = [prompt for batch in batches[i : i + each] for prompt in batch]
            before = self.generated

            def on_part(made: int, _: int, earlier: int = done) -> None:
                on_batch(earlier + made, total)

            yield self.generate(part, seeds, on_batch=on_part)
            done += self.generated - before

    def _is_there(self, prompt: str, seeds: Sequence[int]) -> bool:
        return self.cache.path("pictures", self.key(prompt, seeds)).exists()

    def share(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        adapter: str = "",
        on_batch: OnBatch = lambda done, total: None,
        *,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        """Make what the cache lacks together with ``world`` - 1 other processes, of this and other machines;
        returns when the cache lacks nothing.

        Each process claims one batch after another (`fade.generation.claims`), from its own ``rank`` on: none
        waits while there is work, none is made twice, and the batches of a process that was killed are made
        by the others. A batch is the same whoever makes it. on_batch: this process's pictures, and about how
        many its part is. Raises as `generate`, but for pictures of one colour."""
        made = 0
        # one at a time: what is there already is read, as it may be damaged, and not kept
        gaps = [batch for batch in self.batches(prompts, seeds) if self._read([batch], seeds, adapter)[1]]
        part = -(-sum(map(len, gaps)) * len(seeds) // world)
        left = gaps[len(gaps) * rank // world :] + gaps[: len(gaps) * rank // world]
        while left:
            others: list[list[str]] = []
            for batch in left:
                with claimed(self.cache.root, self.key(batch[0], seeds, adapter)) as held:
                    if not held:
                        others.append(batch)
                        continue
                    before = self.generated
                    self._fill(batch, seeds, adapter)
                    made += self.generated - before
                on_batch(made, max(part, made))
            if len(others) == len(left):
                time.sleep(WAIT)
            left = others

    def batches(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[list[str]]:
        """The prompts, each once, in the batches in which they are always made."""
        unique = list(dict.fromkeys(prompts))
        each = max(1, self.sampler.batch_size // len(seeds))
        return [unique[i : i + each] for i in range(0, len(unique), each)]

    def _have_made(
        self,
        workers: Workers,
        batches: list[list[str]],
        seeds: Sequence[int],
        adapter: str,
        on_batch: OnBatch,
    ) -> None:
        """Have other processes make what the cache lacks of the batches."""
        start = time.perf_counter()
        self.generated += workers([prompt for batch in batches for prompt in batch], seeds, adapter, on_batch)
        self.seconds += time.perf_counter() - start

    def _fill(self, batch: list[str], seeds: Sequence[int], adapter: str) -> None:
        """Make a batch unless another process has made it meanwhile."""
        out, gaps = self._read([batch], seeds, adapter)
        if gaps:
            self._make(batch, [prompt for prompt in batch if prompt not in out], seeds, adapter)

    def _read(
        self, batches: Sequence[list[str]], seeds: Sequence[int], adapter: str
    ) -> tuple[dict[str, Pictures], list[list[str]]]:
        """What the cache has of the batches, and the batches with a gap."""
        out = {}
        for prompt in (prompt for batch in batches for prompt in batch):
            key = self.key(prompt, seeds, adapter)
            if (stored := self.cache.get("pictures", key)) is not None:
                out[prompt] = Pictures(stored["latents"], stored["pixels"].numpy(), key)
        return out, [batch for batch in batches if not out.keys() >= set(batch)]

    def _make(
        self, prompts: Sequence[str], missing: Sequence[str], seeds: Sequence[int], adapter: str
    ) -> dict[str, Pictures]:
        """Make one batch; store, and return, what was missing of it."""
        n, start = len(seeds), time.perf_counter()
        # An embedding's last bits depend on what is encoded with it: never on what was encoded before.
        with self.base.no_embeddings():
            texts = [prompt for prompt in prompts for _ in range(n)]
            latents = sample(self.base, texts, list(seeds) * len(prompts), self.sampler)
        require_finite(latents, texts, STAGE, adapter)
        pixels = self.base.decode(latents)
        self.generated += len(pixels)
        self.seconds += time.perf_counter() - start
        out = {}
        for prompt in missing:
            first, key = prompts.index(prompt) * n, self.key(prompt, seeds, adapter)
            part = slice(first, first + n)
            tensors = {"latents": latents[part].clone(), "pixels": torch.from_numpy(pixels[part].copy())}
            self.cache.put("pictures", key, tensors)
            out[prompt] = Pictures(latents[part], pixels[part], key)
        return out
