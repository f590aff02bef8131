"""kill -9 at random moments of a run, and the same command again: does every one end with the same adapter,
registered once?

Each round starts in an empty runs folder, kills the command's process (and only that: what it started must
end by itself) at a moment drawn uniformly over the whole run, waits for its family to go, and runs the same
command again to its end. Rounds that ``--out`` holds already, of the same seed and the same weights, are not
done again: 50 may take several sittings. Within a sitting the adapters are compared by their bytes, whose
header names the commit: commit nothing meanwhile."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psutil

REPO = Path(__file__).resolve().parents[1]
SMALL = (
    "neighborhood.images_per_concept=2",
    "evaluate.images_per_concept=2",
    "evaluate.rest_concepts=2",
    "evaluate.bootstrap=50",
    "sampler.steps=4",
    "train.steps=12",
    "train.warmup=1",
    "train.checkpoint_every=3",
)
STAGES = ("pull", "validate", "mine", "train", "evaluate", "register")
PATIENCE = 30.0
"""Seconds in which the killed run's children must have ended by themselves."""


def line(target: str, runs: Path) -> list[str]:
    settings = [part for item in SMALL for part in ("--set", item)]
    return [sys.executable, "-m", "flows.cli", "run", "--target", target, *settings, "--runs-dir", str(runs)]


def environment() -> dict[str, str]:
    clean = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("MLFLOW_", "PREFECT_", "FADE_"))
    }
    return {**clean, "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "160"}


def start(target: str, runs: Path, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as stream:
        return subprocess.Popen(
            line(target, runs),
            cwd=REPO,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )


def stage_of(log: Path) -> str:
    """The last stage that the run told of; "start" before the first."""
    stages = [
        words[0]
        for words in map(str.split, log.read_text(errors="replace").splitlines())
        if words and words[0] in STAGES
    ]
    return stages[-1] if stages else "start"


def outcome(runs: Path) -> dict[str, Any]:
    """What stands in the registry and on the disk."""
    with closing(sqlite3.connect(runs / "mlflow.db")) as store:
        versions = store.execute("select count(*) from model_versions").fetchone()[0]
        unfinished = store.execute(
            "select count(*) from runs where status not in ('FINISHED', 'FAILED', 'KILLED')"
        ).fetchone()[0]
    results = [json.loads(path.read_text()) for path in runs.glob("erase/*/*/result.json")]
    return {
        "versions": versions,
        "unfinished": unfinished,
        "adapters": [one["adapter_sha256"] for one in results],
    }


def one_round(
    number: int, args: argparse.Namespace, sha256: str, seconds: float, home: Path
) -> dict[str, Any]:
    draw = random.Random(f"{args.seed}:{number}")
    runs = home / f"round-{number:03d}"
    for _ in range(5):  # drawn anew when the run was faster than the whole one
        shutil.rmtree(runs, ignore_errors=True)
        runs.mkdir(parents=True)
        log, delay = runs / "killed.log", draw.uniform(0, seconds)
        process = start(args.target, runs, log)
        with suppress(subprocess.TimeoutExpired):
            process.wait(delay)
        if process.poll() is None:
            break
    else:
        return {"round": number, "error": "the run was always faster"}
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    stage, killed = stage_of(log), time.monotonic()
    _, left = psutil.wait_procs(family, timeout=PATIENCE)
    for orphan in left:
        with suppress(psutil.Error):
            orphan.kill()
    waited = round(time.monotonic() - killed, 1)
    second = start(args.target, runs, runs / "again.log")
    try:
        code: int | None = second.wait(args.timeout)
    except subprocess.TimeoutExpired:
        os.killpg(second.pid, signal.SIGKILL)
        code = None
    result = outcome(runs) if code == 0 else {}
    good = (
        code == 0
        and not left
        and result["versions"] == 1
        and result["unfinished"] == 0
        and set(result["adapters"]) == {sha256}
    )
    if good:
        shutil.rmtree(runs)
    row = {
        "round": number,
        "at": round(delay, 2),
        "stage": stage,
        "orphans": len(left),
        "gone_after": waited,
        "exit": code,
        **result,
        "good": good,
    }
    print(json.dumps(row), flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="Example: python bench/kills.py --kills 50 --out bench/results/kills.json"
    )
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=2, help="rounds at once, of one thread each")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--target", default="panda")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds for the second run")
    parser.add_argument("--out", type=Path, help="write the record here, too")
    args = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="fade-kills-"))
    seconds, adapter = undisturbed(args, home)
    sha256, weights = hashlib.sha256(adapter.read_bytes()).hexdigest(), weights_sha256(adapter)
    earlier_rounds = earlier(args, weights)
    todo = [number for number in range(args.kills) if number not in earlier_rounds]
    with ThreadPoolExecutor(args.jobs) as pool:
        done = pool.map(lambda number: one_round(number, args, sha256, seconds, home), todo)
        rows = [row for _, row in sorted({**earlier_rounds, **{row["round"]: row for row in done}}.items())]
    good = sum(bool(row.get("good")) for row in rows)
    record = {
        "command": f"python bench/kills.py --kills {args.kills} --jobs {args.jobs} --seed {args.seed}",
        "kills": args.kills,
        "good": good,
        "stages": dict(Counter(row.get("stage", "none") for row in rows)),
        "orphans": sum(row.get("orphans", 0) for row in rows),
        "longest_wait": max(row.get("gone_after", 0.0) for row in rows),
        "whole_seconds": round(seconds, 1),
        "seed": args.seed,
        "weights_sha256": weights,
        "rounds": rows,
    }
    if args.out:
        args.out.write_text(json.dumps(record, indent=1) + "\n")
    print(
        f"{good} of {args.kills} ended with the same adapter, registered once; killed in {record['stages']}"
    )
    if good == args.kills:
        shutil.rmtree(home)
    sys.exit(good != args.kills)


def undisturbed(args: argparse.Namespace, home: Path) -> tuple[float, Path]:
    """(seconds of a whole run, its adapter). As many run at once as rounds will: alone a run would be faster,
    and no kill would hit its last stages."""
    began = time.monotonic()
    homes = [home / f"whole-{number}" for number in range(args.jobs)]
    runs = [start(args.target, folder, make(folder) / "whole.log") for folder in homes]
    if any(run.wait(args.timeout) != 0 for run in runs):
        sys.exit(f"an undisturbed run failed: see {home}")
    seconds = time.monotonic() - began
    adapters = [next(folder.glob("erase/*/*/adapter.safetensors")) for folder in homes]
    if len({adapter.read_bytes() for adapter in adapters}) != 1:
        sys.exit(f"undisturbed runs made different adapters: see {home}")
    return seconds, adapters[0]


def weights_sha256(adapter: Path) -> str:
    """Hash of an adapter without its header, which names the commit."""
    from safetensors.numpy import load_file

    digest = hashlib.sha256()
    for name, value in sorted(load_file(adapter).items()):
        digest.update(name.encode() + value.tobytes())
    return digest.hexdigest()


def earlier(args: argparse.Namespace, weights: str) -> dict[int, dict[str, Any]]:
    """Rounds of the same seed that came to the same weights in an earlier sitting."""
    if not args.out or not args.out.is_file():
        return {}
    content = json.loads(args.out.read_text())
    if (content["seed"], content["weights_sha256"]) != (args.seed, weights):
        return {}
    return {row["round"]: row for row in content["rounds"] if row.get("good")}


def make(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


if __name__ == "__main__":
    main()
