"""How long pictures will take, before they are made: by those that were made with the same base and sampler,
or by one measured step."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from fade.generation.cache import Cache
from fade.generation.generator import ImageGenerator
from fade.models.sampling import sample
from fade.utils.devices import device_name
from fade.utils.files import read_json, write_json
from fade.utils.progress import duration

MANY = 8
"""Full batches for which a step is measured where nothing is known: fewer are made in its place."""
STEPS = 2
"""Solver steps that are measured: the first of them loads what all others use."""


def lacking(
    generator: ImageGenerator, prompts: Sequence[str], seeds: Sequence[int], adapter: str = ""
) -> int:
    """Pictures that `ImageGenerator.generate` has to make: those of each batch of which the cache lacks some.
    adapter: as `ImageGenerator.key` has it."""
    gaps = [
        batch
        for batch in generator.batches(prompts, seeds)
        if not all(
            generator.cache.path("pictures", generator.key(prompt, seeds, adapter)).exists()
            for prompt in batch
        )
    ]
    return sum(map(len, gaps)) * len(seeds)


def note_pace(generator: ImageGenerator, *, here: bool = True) -> None:
    """Keep, beside the pictures, what one of those took that this generator has made; here: by this process,
    whose device is named then. Raises StorageError."""
    if generator.generated:
        file = _file(generator)
        file.parent.mkdir(parents=True, exist_ok=True)
        each = generator.seconds / generator.generated
        write_json(file, {"seconds": each, "device": device_name(generator.base.device) if here else ""})


def estimate(generator: ImageGenerator, pictures: int, *, here: bool = True) -> str:
    """``about 3.2 h at 1.4 s each on NVIDIA H200``; "" where it is not known.

    here: whether this process makes them, so that a step of its own says something."""
    stored = read_json(_file(generator))
    try:
        each, device = float(stored["seconds"]), str(stored["device"])
    except (TypeError, KeyError, ValueError):
        if not here or pictures < MANY * generator.sampler.batch_size:
            return ""
        each, device = _measured_step(generator), device_name(generator.base.device)
    return f"about {duration(each * pictures)} at {each:.2g} s each" + (f" on {device}" if device else "")


def _measured_step(generator: ImageGenerator) -> float:
    """Seconds a picture, decoding aside, by STEPS solver steps of a full batch of it."""
    sampler = generator.sampler.model_copy(update={"steps": STEPS})
    n = sampler.batch_size
    start = time.perf_counter()
    with generator.base.no_embeddings():
        sample(generator.base, [generator.sampler.negative_prompt] * n, range(n), sampler)
    return (time.perf_counter() - start) / n * generator.sampler.steps / STEPS


def _file(generator: ImageGenerator) -> Path:
    base, sampler = generator.base, generator.sampler.model_dump(mode="json", exclude={"prompt"})
    key = Cache.key(base=base.sha256, dtype=str(base.dtype), sampler=sampler)
    return generator.cache.root / "pace" / f"{key}.json"
