"""What another busy process costs, by how long torch's threads spin for each other before they sleep
(GOMP_SPINCOUNT, on Linux).

    python bench/spin.py --out bench/results/spin.json

Seconds of drawing 32 pictures and of 12 steps through an adapter, alone and beside one process that keeps a
core busy, with the thread library's own count and with a low one; each in fresh processes, taken in turns.
Nothing else should run on the machine."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from fade.models.sampling import sample

NAME, LOW = "GOMP_SPINCOUNT", "2000"
BUSY = "while True: sum(range(10000))"
PICTURES, STEPS, BATCH = 32, 12, 14


def measure() -> dict[str, float]:
    """Seconds of both works in this process."""
    import torch

    from fade.adapters.lora import LoraAdapter
    from fade.run.context import RunContext
    from fade.run.resolve_params import resolve

    context = RunContext(resolve(), "panda", Path("runs"))
    base, sampler = context.models.base, context.params.sampler
    out = {}
    for pictures in (4, PICTURES):  # the first is not counted
        start = time.perf_counter()
        sample(base, ["a panda"] * pictures, list(range(pictures)), sampler)
        out["drawing"] = time.perf_counter() - start
    lora, generator = (
        LoraAdapter.insert(base, context.params.mesh, seed=0),
        torch.Generator().manual_seed(0),
    )
    x, t = torch.randn((BATCH, *base.latent_shape), generator=generator), torch.arange(BATCH) * 10
    emb = base.encode(["a panda"] * BATCH)
    for steps in (2, STEPS):
        start = time.perf_counter()
        for _ in range(steps):
            base.predict(x, t, emb).square().mean().backward()
        out["training"] = time.perf_counter() - start
    lora.remove()
    return out


def run_once(count: str | None, busy: bool) -> dict[str, float]:
    """The same in a process of its own."""
    env = {name: value for name, value in os.environ.items() if name != NAME} | (
        {} if count is None else {NAME: count}
    )
    other = subprocess.Popen([sys.executable, "-c", BUSY]) if busy else None
    try:
        line = [sys.executable, str(Path(__file__).resolve()), "--measure"]
        report: dict[str, float] = json.loads(
            subprocess.run(line, env=env, check=True, capture_output=True, text=True).stdout
        )
        return report
    finally:
        if other is not None:
            other.kill()
            other.wait()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure()))
        return
    rows: list[dict[str, Any]] = [
        {"count": count, "busy": busy, "runs": []} for busy in (False, True) for count in (None, LOW)
    ]
    for _ in range(args.repeats):
        for row in rows:
            row["runs"].append(run_once(row["count"], row["busy"]))
            print(
                row["count"] or "its own",
                "beside a busy process" if row["busy"] else "alone",
                row["runs"][-1],
                flush=True,
            )
    for row in rows:
        row["median_seconds"] = {
            work: statistics.median(run[work] for run in row["runs"]) for work in ("drawing", "training")
        }
    record = {
        "command": "python " + " ".join(sys.argv),
        "variable": NAME,
        "pictures": PICTURES,
        "steps": STEPS,
        "batch": BATCH,
        "cores": os.cpu_count(),
        "rows": rows,
    }
    if args.out:
        args.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
