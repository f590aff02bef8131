"""Does training repeat itself on this machine's GPU? The same jobs twice, once killed in the middle, and a
control of another seed.

    python bench/gpu.py --target panda --out bench/results/gpu.json

Weights are compared without the adapter's header. A training is done by this process, as in the pipeline; the
one that is killed by a worker of its own. ``--device cpu`` tries the script where there is no GPU."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from kills import weights_sha256

from fade.jobs.train import TrainJob
from fade.models.base import DiffusionModel
from fade.models.loading import load_model, suppress_library_output
from fade.run.context import RunContext
from fade.run.resolve_params import resolve
from fade.training.checkpoint import steps_in
from fade.training.determinism import enable_determinism
from fade.training.settings import CHECKPOINTS, DONE
from tasks.launch.accelerate import environment
from tasks.launch.run_job import run_job
from tasks.stages.mine import mine
from tasks.stages.train import Trained, read_result, write_job

OURS = ("method.name=nullspace", "method.variant=hinge")
BF16, FP32 = "train.precision=bf16", "train.precision=fp32"
KILLED = "fade/paper, bf16, killed and resumed"
TRAININGS: dict[str, tuple[str, ...]] = {
    "fade/paper, bf16": (BF16,),
    "fade/paper, bf16, again": (BF16,),
    KILLED: (BF16,),
    "fade/paper, bf16, seed 1": (BF16, "train.seed=1"),
    "fade/paper, fp32": (FP32,),
    "fade/paper, fp32, again": (FP32,),
    "nullspace/hinge, bf16": (*OURS, BF16),
    "nullspace/hinge, bf16, again": (*OURS, BF16),
}
FACTS = ("precision", "device", "torch", "peak_memory_mb", "seconds", "resumed_at")


def run_training(job: TrainJob, base: DiffusionModel) -> Trained:
    """Train in this process."""
    run_job(job, deadline=job.train.deadline_seconds, device=base.device.type, base=base)
    return read_result(job, reused=False)


def killed_midway(job: TrainJob, base: DiffusionModel) -> Trained:
    """Train in a process that is killed -9 once a checkpoint is there, and again to the end."""
    line = [sys.executable, "-m", "fade.jobs.worker", str(job.write())]
    with subprocess.Popen(line, env=environment(1, base.device.type)) as worker:
        while worker.poll() is None and not steps_in(job.out / CHECKPOINTS):
            time.sleep(0.05)
        worker.kill()
    if (job.out / DONE).exists() or not steps_in(job.out / CHECKPOINTS):
        raise SystemExit("the training ended before it could be killed.")
    return run_training(job, base)


def verdict(trainings: dict[str, dict[str, Any]]) -> dict[str, bool]:
    """What must hold, and whether it does."""
    weights = {label: row["weights_sha256"] for label, row in trainings.items()}
    return {
        "again the same": all(
            weights[label] == weights[f"{label}, again"] for label in weights if f"{label}, again" in weights
        ),
        "killed and resumed the same": weights[KILLED] == weights["fade/paper, bf16"]
        and trainings[KILLED]["resumed_at"] > 0,
        "another seed another": weights["fade/paper, bf16, seed 1"] != weights["fade/paper, bf16"],
        "another precision another": weights["fade/paper, fp32"] != weights["fade/paper, bf16"],
    }


def main() -> None:
    """Train them all, say what held."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", default="panda")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    trainings: dict[str, dict[str, Any]] = {}
    suppress_library_output()
    if args.device == "cuda":
        enable_determinism()
    with tempfile.TemporaryDirectory(prefix="fade-gpu-") as home:
        first = RunContext(resolve(overrides=args.overrides), args.target, Path(home) / "mined")
        first.models.base = base = load_model(first.params.data.base, device=args.device)
        neighborhood = mine(first)
        for number, (label, overrides) in enumerate(TRAININGS.items()):
            run = first.with_params(resolve(overrides=[*args.overrides, *overrides]), args.target)
            run.runs = Path(home) / str(number)
            job = write_job(run, neighborhood, {})
            trained = killed_midway(job, base) if label == KILLED else run_training(job, base)
            trainings[label] = {
                "weights_sha256": weights_sha256(trained.adapter),
                **{fact: trained.run[fact] for fact in FACTS},
            }
            print(
                f"{label:40} {trainings[label]['weights_sha256'][:12]}  {trainings[label]['seconds']:6.1f} s",
                flush=True,
            )
    checks = verdict(trainings)
    print("\n".join(f"{what}: {'yes' if ok else 'NO'}" for what, ok in checks.items()))
    if args.out:
        command = f"python bench/gpu.py --target {args.target} --device {args.device}"
        record = {"command": command, "held": checks, "trainings": trainings}
        args.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    raise SystemExit(not all(checks.values()))


if __name__ == "__main__":
    main()
