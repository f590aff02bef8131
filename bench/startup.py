"""How long things take before any work is done: `fade --help`, and the import of each tool.

    python bench/startup.py [--repeats 5] [--json FILE]

Each number is the median wall time of fresh processes, the first (which fills the disk cache) left out; the
last column takes away what an empty interpreter needs. Nothing else should run on the machine: the loads
before and after are part of the result."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rich.console import Console
from rich.table import Table

TOOLS = (
    "typer",
    "torch",
    "diffusers",
    "transformers",
    "accelerate",
    "peft",
    "pandas",
    "matplotlib",
    "prefect",
    "mlflow",
    "dvc.repo",
    "great_expectations",
)
GOAL = 0.5  # seconds for `fade --help`
QUIET = {
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "HF_HUB_OFFLINE": "1",
}


def seconds(command: list[str], repeats: int) -> list[float]:
    """Wall seconds of ``repeats`` runs after one that is not counted. Raises CalledProcessError when a run
    fails."""
    out = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, **QUIET})
        out.append(time.perf_counter() - start)
    return out[1:]


def measure(repeats: int) -> dict[str, list[float]]:
    """What is started -> its seconds."""
    python = sys.executable
    script = Path(python).with_name("fade")
    samples = {
        "python (empty)": seconds([python, "-c", ""], repeats),
        "fade --help": seconds([str(script), "--help"], repeats),
    }
    for tool in TOOLS:
        samples[f"import {tool}"] = seconds([python, "-c", f"import {tool}"], repeats)
    return samples


def installed(what: str) -> str:
    """The version of the tool in ``import <tool>``; empty for anything else."""
    try:
        return version(what.removeprefix("import ").split(".")[0]) if what.startswith("import ") else ""
    except PackageNotFoundError:
        return ""


def main() -> None:
    """Measure, print a table, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=5, help="runs that count, each a fresh process")
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    args = parser.parse_args()
    if args.repeats < 1:
        parser.error("--repeats must be at least 1")
    before = os.getloadavg()[0]
    samples = measure(args.repeats)
    medians = {what: statistics.median(times) for what, times in samples.items()}
    empty = medians["python (empty)"]
    table = Table(title=f"Start-up, median of {args.repeats} (seconds)")
    for column in ("what", "version", "median", "min", "max", "less python"):
        table.add_column(column, justify="left" if column in ("what", "version") else "right")
    for what, times in samples.items():
        numbers = (medians[what], min(times), max(times), medians[what] - empty)
        table.add_row(what, installed(what), *(f"{n:.2f}" for n in numbers))
    Console().print(table)
    load = (before, os.getloadavg()[0])
    print(f"fade --help: {medians['fade --help']:.2f} s, goal {GOAL} s")
    print(f"load {load[0]:.1f} before, {load[1]:.1f} after, {os.cpu_count()} cores")
    if args.json:
        machine = {
            "python": platform.python_version(),
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "load": load,
        }
        result = {
            "command": f"python bench/startup.py --repeats {args.repeats}",
            **machine,
            "median_seconds": medians,
            "seconds": samples,
        }
        partial = args.json.with_suffix(".partial")
        partial.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        os.replace(partial, args.json)


if __name__ == "__main__":
    main()
