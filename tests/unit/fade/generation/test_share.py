"""Processes that share a cache: each batch is made once, by whoever is free, and a killed one's by the
others."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from fade.config import SamplerConfig
from fade.generation.cache import Cache
from fade.generation.claims import FOLDER, claimed
from fade.generation.generator import ImageGenerator
from fade.models.loading import load_model

SAMPLER = SamplerConfig(steps=1, batch_size=4)
PROMPTS = [f"a thing {i}" for i in range(24)]
SEEDS = [0, 1]


def test_a_claim_is_held_by_one_and_ends_with_it(tmp_path: Path) -> None:
    with claimed(tmp_path, "a") as first, claimed(tmp_path, "a") as second, claimed(tmp_path, "b") as other:
        assert (first, second, other) == (True, False, True)
    assert [*(tmp_path / FOLDER).iterdir()] == []
    with claimed(tmp_path, "a") as again:
        assert again


def test_a_claim_that_was_released_between_open_and_lock_is_not_held_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The holder removes the file after another one opened it: that one's lock is on a file without a
    name."""
    import fade.generation.claims as claims

    real = claims._locked

    def locked_after_the_holder_went(descriptor: int) -> bool:
        (tmp_path / FOLDER / "a").unlink()
        (tmp_path / FOLDER / "a").touch()
        return real(descriptor)

    monkeypatch.setattr(claims, "_locked", locked_after_the_holder_went)
    with claimed(tmp_path, "a") as held:
        assert not held


class Slow(ImageGenerator):
    """Makes nothing but time: a batch takes as long as its place in the vocabulary says."""

    def __init__(self, base: Any, cache: Cache, seconds: Sequence[float]) -> None:
        super().__init__(base, SAMPLER, cache)
        self.spent, self._seconds = 0.0, seconds

    def _make(self, prompts: Any, missing: Any, seeds: Any, adapter: Any) -> Any:
        duration = self._seconds[PROMPTS.index(prompts[0]) // 2]
        time.sleep(duration)
        self.spent += duration
        self.generated += len(prompts) * len(seeds)
        for prompt in missing:
            tensors = {
                "latents": torch.zeros(2, 1, 1, 1),
                "pixels": torch.zeros(2, 1, 1, 3, dtype=torch.uint8),
            }
            self.cache.put("pictures", self.key(prompt, seeds, adapter), tensors)


def test_uneven_work_is_spread_evenly_and_nothing_is_made_twice(tiny_base_dir: Path, tmp_path: Path) -> None:
    base, cache = load_model(str(tiny_base_dir), device="cpu"), Cache(tmp_path)
    seconds = [0.4 if i < 3 else 0.05 for i in range(12)]  # the first rank's own part is the slow one
    workers = [Slow(base, cache, seconds) for _ in range(4)]
    threads = [
        threading.Thread(target=one.share, args=(PROMPTS, SEEDS), kwargs={"rank": rank, "world": 4})
        for rank, one in enumerate(workers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(one.generated for one in workers) == len(PROMPTS) * len(SEEDS)
    # static parts: the first rank alone takes 1.2; its own work, as the clock also counts a busy machine's
    assert max(one.spent for one in workers) < 0.9


def _share(base: str, root: str, rank: int) -> None:
    generator = ImageGenerator(load_model(base, device="cpu"), SAMPLER, Cache(Path(root)))
    if rank == 0:  # killed while it holds a claim
        generator._make = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign]
    while rank and not any((Path(root) / FOLDER).glob("*")):  # until the other one holds it
        time.sleep(0.01)
    generator.share(PROMPTS, SEEDS, rank=rank, world=2)


def test_what_a_killed_process_had_claimed_is_made_by_the_others_to_the_same_bytes(
    tiny_base_dir: Path, tmp_path: Path
) -> None:
    context = multiprocessing.get_context("spawn")
    arguments = (str(tiny_base_dir), str(tmp_path / "shared"))
    processes = [context.Process(target=_share, args=(*arguments, rank)) for rank in range(2)]
    for one in processes:
        one.start()
    for one in processes:
        one.join(120)
    assert [one.exitcode for one in processes] == [-signal.SIGKILL, 0]
    base = load_model(str(tiny_base_dir), device="cpu")
    alone = ImageGenerator(base, SAMPLER, Cache(tmp_path / "alone"))
    alone.generate(PROMPTS, SEEDS)
    files = [
        {p.name: p.read_bytes() for p in (tmp_path / home / "pictures").iterdir()}
        for home in ("shared", "alone")
    ]
    assert len(files[0]) == len(PROMPTS) and files[0] == files[1]
