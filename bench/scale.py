"""Mining at scale, simulated: neighbours among many concepts, and work that several processes share.

    python bench/scale.py --out bench/results/scale.json

1. The nearest of one target among 1,000 and 100,000 concepts (random unit features of CLIP ViT-L's width):
the median and the slowest of --repeats.
2. --workers processes, each with a small random base, make the pictures of --concepts concepts in one cache;
   --kill of them is killed after a third of the time that the others took. Counted: pictures by each process,
   pictures made in all over those needed, and whether the bytes are those of one process alone.
3. TFLOP of one picture with bases of the true sizes (counted on tensors without content: no weights are
needed), and the hours of a whole data set at --tflops of the device. These hours are estimates."""

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
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(1, str(Path(__file__).resolve().parent))
from fade.config import SamplerConfig
from fade.generation.cache import Cache
from fade.generation.generator import ImageGenerator
from fade.mining.neighborhood import nearest
from fade.models.loading import load_model
from tests.support import make_tiny_base

WIDTH = 768
SAMPLER = SamplerConfig(steps=2, batch_size=8)
SEEDS = [0, 1]


def neighbours(concepts: int, repeats: int) -> dict[str, Any]:
    """Milliseconds of `nearest`."""
    rng = np.random.default_rng(0)
    means = rng.standard_normal((concepts, WIDTH), dtype=np.float32)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
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


def work(base: str, root: str, prompts: list[str], rank: int, world: int, made: str, start: Any) -> None:
    """One process: its share, and how many pictures that were."""
    generator = ImageGenerator(load_model(base, device="cpu"), SAMPLER, Cache(Path(root)))
    start.wait()

    def on_batch(done: int, total: int) -> None:
        (Path(made) / f"{rank}.json").write_text(str(done), encoding="utf-8")

    generator.share(prompts, SEEDS, on_batch=on_batch, rank=rank, world=world)


def together(
    folder: Path, base: str, prompts: list[str], world: int, killed: int, after: float
) -> dict[str, Any]:
    """Several processes on one cache; the first ``killed`` of them are killed ``after`` seconds."""
    made, context = folder / "made", multiprocessing.get_context("spawn")
    made.mkdir(parents=True)
    start = context.Barrier(world + 1)
    arguments = [
        (base, str(folder / "cache"), prompts, rank, world, str(made), start) for rank in range(world)
    ]
    processes = [context.Process(target=work, args=one) for one in arguments]
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
    counts = [int(file.read_text(encoding="utf-8")) for file in sorted(made.iterdir())]
    needed = len(prompts) * len(SEEDS)
    alive = counts[killed:]
    return {
        "workers": world,
        "killed": killed,
        "seconds": round(time.perf_counter() - began, 2),
        "pictures": counts,
        "made_over_needed": round(sum(counts) / needed, 4),
        "most_over_even": round(max(alive) * len(alive) / sum(alive), 4),
        "exit_codes": [one.exitcode for one in processes],
    }


def same_bytes(folder: Path, base: str, prompts: list[str]) -> bool:
    """Whether the shared cache holds what one process makes alone."""
    alone = folder / "alone"
    ImageGenerator(load_model(base, device="cpu"), SAMPLER, Cache(alone)).generate(prompts, SEEDS)
    caches = [
        {one.name: one.read_bytes() for one in (home / "pictures").iterdir()}
        for home in (folder / "cache", alone)
    ]
    return caches[0] == caches[1]


SETS = {"Stanford Dogs": 120, "CUB-200-2011": 200, "ImageNet-1k": 1000}
"""Data set -> concepts."""
BASES = {"sd15": (64, 25), "sdxl": (128, 30)}
"""Model of bench/memory.py -> side of its latents, solver steps; guidance doubles each."""


def picture_tflop(name: str) -> float:
    """Of one picture with guidance, its decoding included."""
    import diffusers
    import torch
    from memory import MODELS
    from torch.utils.flop_counter import FlopCounterMode

    (side, steps), parts = BASES[name], MODELS[name][1]
    with torch.device("meta"):
        unet, vae = (getattr(diffusers, kind)(**config) for kind, config in (parts["unet"], parts["vae"]))
        latents, text = (
            torch.randn(1, 4, side, side),
            torch.randn(1, 77, parts["unet"][1]["cross_attention_dim"]),
        )
        added = {"text_embeds": torch.randn(1, 1280), "time_ids": torch.randn(1, 6)}
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        unet(latents, torch.tensor([1.0], device="meta"), text, added_cond_kwargs=added)
    with FlopCounterMode(display=False) as decoding, torch.no_grad():
        vae.decode(latents)
    return float((2 * steps * forward.get_total_flops() + decoding.get_total_flops()) / 1e12)


def estimates(tflops: float) -> dict[str, Any]:
    """Hours on one device: mining every concept (8 pictures each), and one target's evaluation (24 pictures
    of it, its neighbours, held-out and rest concepts, before and after)."""
    rows = {}
    for name in BASES:
        tflop = picture_tflop(name)
        seconds = tflop / tflops
        mined = {title: round(8 * concepts * seconds / 3600, 2) for title, concepts in SETS.items()}
        evaluation = round(2 * 24 * (1 + 5 + 5 + 12) * seconds / 3600, 2)
        rows[name] = {
            "tflop_a_picture": round(tflop, 1),
            "seconds_a_picture": round(seconds, 2),
            "hours_to_mine": mined,
            "hours_to_evaluate_a_target": evaluation,
        }
    return {"tflops_assumed": tflops, "bases": rows}


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--concepts", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--kill", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--tflops", type=float, default=100.0, help="assumed of the device; of an A100's 312")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    prompts = [f"a thing {i}" for i in range(options.concepts)]
    result: dict[str, Any] = {"neighbours": [neighbours(n, options.repeats) for n in (1_000, 100_000)]}
    result["estimates"] = estimates(options.tflops)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        base = str(make_tiny_base(folder / "base"))
        whole = together(folder / "whole", base, prompts, options.workers, 0, 0.0)
        after = whole["seconds"] / 3
        stopped = together(folder / "stopped", base, prompts, options.workers, options.kill, after)
        stopped["same_bytes"] = same_bytes(folder / "stopped", base, prompts)
        result["shared"] = [whole, stopped]
    print(json.dumps(result, indent=1))
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
