"""Mining at scale: neighbours among many concepts, work that several processes share, and what the published
data sets cost on bases of the true sizes.

    python bench/scale.py --out bench/results/scale.json
    python bench/scale.py --only neighbours shared --concepts 200 --workers 4
    python bench/scale.py --estimate

1. neighbours: the nearest of one target among 1,000 and 100,000 concepts (random unit features of CLIP
   ViT-L's width).
2. shared: --workers processes, each with a small random base, make the pictures of --concepts concepts in one
   cache, once undisturbed and once with --kill of them killed after a third of that time. Counted in each
   process: every latent that its denoiser saw, so that the work which a kill loses counts, too.
3. counted: TFLOP of a forward pass and of a decoding with SD 1.5 and SDXL, on tensors without content: no
   weights are needed.

Each goal is printed with its verdict; the exit code is 1 where one is missed. --estimate measures nothing: it
writes the tables of docs/scale.md from the file of --out and the other results."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scale_page import goals, write_page

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from fade.config import SamplerConfig
from fade.generation.cache import Cache
from fade.generation.generator import ImageGenerator
from fade.mining.neighborhood import nearest
from fade.models.loading import load_model
from flows.service.new_project import FAMILIES
from tests.support import make_tiny_base

PARTS = ("neighbours", "shared", "counted")
WIDTH = 768
SAMPLER = SamplerConfig(steps=2, batch_size=8)
SEEDS = [0, 1]
STARTED = 600
"""Seconds within which all processes have loaded their base."""
BASES = {"sd15": ("sd", 64), "sdxl": ("sdxl", 128)}
"""Model of bench/memory.py -> its family, and the side of its latents."""
Counts = Any
"""A shared array of integers, one a process."""


def neighbours(concepts: int, repeats: int) -> dict[str, Any]:
    """Milliseconds of `nearest`."""
    rng = np.random.default_rng(0)
    means = rng.standard_normal((concepts, WIDTH), dtype=np.float32)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    nearest(means, 0, 10)  # the first product starts the library's threads
    times = []
    for target in rng.integers(0, concepts, repeats):
        start = time.perf_counter()
        nearest(means, int(target), 10)
        times.append(1000 * (time.perf_counter() - start))
    return {
        "concepts": concepts,
        "median_ms": round(statistics.median(times), 2),
        "slowest_ms": round(max(times), 2),
        "n": repeats,
    }


def counting_generator(base: str, cache: Path, rank: int, work: Counts) -> ImageGenerator:
    """A generator whose denoiser adds each latent that it sees to ``work[rank]``."""
    model = load_model(base, device="cpu")

    def count(module: object, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        work[rank] += len(args[0] if args else kwargs["sample"])

    model.denoiser.register_forward_pre_hook(count, with_kwargs=True)
    return ImageGenerator(model, SAMPLER, Cache(cache))


def share(
    base: str,
    cache: str,
    prompts: list[str],
    rank: int,
    world: int,
    counts: tuple[Counts, Counts],
    start: Any,
) -> None:
    """One process of several: makes what it claims. counts: latents seen, pictures kept."""
    import torch

    torch.set_num_threads(1)
    work, pictures = counts
    generator = counting_generator(base, Path(cache), rank, work)
    start.wait()

    def on_batch(done: int, total: int) -> None:
        pictures[rank] = done

    generator.share(prompts, SEEDS, on_batch=on_batch, rank=rank, world=world)


def together(
    cache: Path, base: str, prompts: list[str], world: int, killed: int, after: float
) -> dict[str, Any]:
    """Several processes on one cache; the first ``killed`` of them are killed ``after`` seconds."""
    context = multiprocessing.get_context("spawn")
    counts = context.RawArray("q", world), context.RawArray("q", world)
    start = context.Barrier(world + 1, timeout=STARTED)
    processes = [
        context.Process(target=share, args=(base, str(cache), prompts, rank, world, counts, start))
        for rank in range(world)
    ]
    for one in processes:
        one.start()
    start.wait()
    began = time.perf_counter()
    if killed:
        time.sleep(after)
        for one in processes[:killed]:
            os.kill(one.pid or 0, signal.SIGKILL)
    for one in processes:
        one.join()
    return {
        "workers": world,
        "killed": killed,
        "seconds": round(time.perf_counter() - began, 2),
        "latents": list(counts[0]),
        "pictures": list(counts[1]),
        "exit_codes": [one.exitcode for one in processes],
    }


def shared(folder: Path, concepts: int, world: int, killed: int) -> dict[str, Any]:
    """One process alone, several undisturbed, and several of which some are killed."""
    base = str(make_tiny_base(folder / "base"))
    prompts = [f"a thing {i}" for i in range(concepts)]
    work = [0]
    counting_generator(base, folder / "alone", 0, work).generate(prompts, SEEDS)
    whole = together(folder / "whole", base, prompts, world, 0, 0.0)
    stopped = together(folder / "stopped", base, prompts, world, killed, whole["seconds"] / 3)
    expected = contents(folder / "alone")
    for run, name in ((whole, "whole"), (stopped, "stopped")):
        run["same_bytes"] = contents(folder / name) == expected
    facts = {"concepts": concepts, "pictures": len(prompts) * len(SEEDS), "latents": work[0]}
    return {**facts, "undisturbed": whole, "killed": stopped}


def contents(cache: Path) -> dict[str, bytes]:
    """The pictures of a cache, by the names of their files."""
    return {one.name: one.read_bytes() for one in (cache / "pictures").iterdir()}


def counted(name: str) -> dict[str, Any]:
    """TFLOP of one latent's forward pass and of one picture's decoding, and the steps of its family."""
    import diffusers
    import torch
    from memory import MODELS
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    (family, side), parts = BASES[name], MODELS[name][1]
    with torch.device("meta"):
        unet, vae = (getattr(diffusers, kind)(**config) for kind, config in (parts["unet"], parts["vae"]))
        latents = torch.randn(1, 4, side, side)
        text = torch.randn(1, 77, parts["unet"][1]["cross_attention_dim"])
        added = {"text_embeds": torch.randn(1, 1280), "time_ids": torch.randn(1, 6)}
        time_of = torch.tensor([1.0])
    # the counter has no formula for the fused kernel of a CPU
    with sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        with FlopCounterMode(display=False) as forward:
            unet(latents, time_of, text, added_cond_kwargs=added)
        with FlopCounterMode(display=False) as decoding:
            vae.decode(latents)
    return {
        "forward_tflop": round(forward.get_total_flops() / 1e12, 4),
        "decode_tflop": round(decoding.get_total_flops() / 1e12, 4),
        "steps": FAMILIES[family]["sampler"]["steps"],
    }


def measure(only: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    """The parts of ``only``."""
    result: dict[str, Any] = {}
    if "neighbours" in only:
        result["neighbours"] = [neighbours(n, options.repeats) for n in (1_000, 100_000)]
    if "shared" in only:
        with tempfile.TemporaryDirectory() as scratch:
            result["shared"] = shared(Path(scratch), options.concepts, options.workers, options.kill)
    if "counted" in only:
        result["counted"] = {name: counted(name) for name in BASES}
    return result


def main() -> None:
    """Measure, print the verdicts, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--estimate", action="store_true", help="write the tables of docs/scale.md")
    parser.add_argument("--concepts", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--kill", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--out", type=Path, help="what it holds of other parts stays")
    options = parser.parse_args()
    if options.estimate:
        print(write_page())
        return
    result = measure(options.only, options)
    print(json.dumps(result, indent=1))
    if options.out:
        before = json.loads(options.out.read_text("utf-8")) if options.out.exists() else {}
        options.out.write_text(json.dumps({**before, **result}, indent=1) + "\n", encoding="utf-8")
    verdicts = goals(result)
    print("\n".join(f"{'met   ' if met else 'MISSED'}  {goal}: {found}" for goal, found, met in verdicts))
    raise SystemExit(not all(met for _, _, met in verdicts))


if __name__ == "__main__":
    main()
