"""What record-keeping costs on top of a run, and what an evidence-only audit takes: seconds, medians of
repeats, a real run's folder.

    python bench/overhead.py runs/erase/panda/KEY [--repeats 5] [--out bench/results/overhead.json]

The run's folder is copied; the store is a new one, whose tables are made before the clock starts. Each
registration is of an evaluation that differs in one number, for the same one would give the same version at
once."""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="the folder of a finished run")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help="write the record here, too")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fade-overhead-") as scratch:
        measured = measure(args.run, args.repeats, Path(scratch))
    summary = {
        name: {"median": round(statistics.median(some), 3), "max": round(max(some), 3), "n": len(some)}
        for name, some in measured.items()
    }
    record = {"command": f"python bench/overhead.py RUN --repeats {args.repeats}", "seconds": summary}
    if args.out:
        args.out.write_text(json.dumps(record, indent=1) + "\n")
    for name, one in summary.items():
        print(f"{name:34} median {one['median']:6.2f} s   max {one['max']:6.2f} s   n {one['n']}")


def measure(run: Path, repeats: int, scratch: Path) -> dict[str, list[float]]:
    from tasks.launch.environment import configure_environment

    configure_environment(scratch / "runs")
    from fade.provenance.lineage import Lineage, collect, hash_inputs
    from fade.run.resolve_params import parse_params
    from flows.audit import audit
    from tasks.registry.connection import connect
    from tasks.registry.register import register
    from tasks.registry.signing import make_keys

    private, public = make_keys(scratch / "keys", "team")
    recorded = json.loads((run / "lineage.json").read_text())
    values = {
        **recorded["params"]["values"],
        "signing": {"private_key": str(private), "public_key": str(public)},
    }
    params, result = parse_params(values), json.loads((run / "evaluation.json").read_text())
    connect(scratch / "runs")
    taken: dict[str, list[float]] = {}

    @contextmanager
    def clock(name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        taken.setdefault(name, []).append(time.perf_counter() - began)

    data = params.data
    roles = ("images", "base", "clip", "judge", *(["second_judge"] if data.second_judge else []))
    inputs = {name: Path(str(getattr(data, name))) for name in roles}
    for number in range(repeats):
        folder = scratch / "runs" / "erase" / "panda" / f"{number:012x}"
        shutil.copytree(
            run, folder, ignore=shutil.ignore_patterns("checkpoints", "latents.safetensors", "superseded-*")
        )
        with clock("lineage"):
            before = hash_inputs(inputs)
            opened = collect(params, **_facts(recorded), inputs=before)
            closed = opened.finish(
                hash_inputs(inputs),
                recorded["outputs"]["adapter_sha256"],
                metrics=result["metrics"],
                base_metrics=result["base_metrics"],
            )
            closed = Lineage(
                {**closed.content, "training": {"reused": True}}
            )  # by the run whose folder this is
            closed.save(folder / "lineage.json")
        facts: dict[str, Any] = {
            **result,
            "metrics": {**result["metrics"], "A_er": result["metrics"]["A_er"] - number / 1e6},
        }
        with clock("signing and registration"):
            done = register(facts, params, closed.content, folder, runs=scratch / "runs")
        taken.setdefault("together", []).append(taken["lineage"][-1] + taken["signing and registration"][-1])
        with clock("evidence-only audit of a version"):
            (row,) = audit(f"{done.name}/{done.version}", params, scratch / "runs", evidence_only=True)
        assert row["good"], row["verdict"]
    return taken


def _facts(recorded: dict[str, Any]) -> dict[str, Any]:
    where: Callable[[str], Any] = recorded["environment"].get
    return {
        "data_md5": recorded["data"]["md5"],
        "data_files": recorded["data"]["files"],
        "data_size": recorded["data"]["size"],
        "base_sha256": recorded["base"]["sha256"],
        "judge_sha256": recorded["judge"]["sha256"],
        "neighbourhood": recorded["neighbourhood"],
        "device": where("device"),
        "precision": where("precision"),
        "world_size": where("world_size"),
    }


if __name__ == "__main__":
    main()
