"""A queue of requests for tests: a project folder, a registry with one registered adapter, and a stand-in for
`flows.erase.erase`.

The stand-in is of our own function: it registers, under the request's concept, the adapter that was
registered once by the real `register`, so everything that reads the registry afterwards reads real records.
As a program it is a worker of its own:

    python -m tests.requested PROJECT [SECONDS] [hold]
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from fade.data.manifest import COLUMNS
from fade.data.vocabulary import slug
from fade.provenance.lineage import Lineage
from tasks.registry.connection import connect
from tasks.registry.models import ensure_model
from tasks.registry.register import register
from tasks.requests.leases import Lease, confirm
from tasks.requests.project import Project
from tasks.requests.worker import Outcome, Worker
from tests.registered import finished_run

GOOD = {"A_er": 100.0, "A_adj": 99.0, "A_heldout": 98.0, "A_rest": 99.0, "ERB": 99.5}
BASE = {"A_tar": 100.0, "A_adj": 100.0, "A_heldout": 100.0, "A_rest": 100.0}
CONCEPTS = ("panda", "koala", "tiger", "lion", "tulip", "rose", "lemon")


def entry(identity: str, concept: str = "panda", **more: Any) -> dict[str, Any]:
    return {
        "id": identity,
        "concept": concept,
        "reason": "a test",
        "requested_by": "ann",
        "date": "2026-01-01",
        **more,
    }


def write(project: Path, *entries: Mapping[str, Any]) -> None:
    (project / "requests.yaml").write_text(
        yaml.safe_dump({"requests": [dict(one) for one in entries]}), encoding="utf-8"
    )


def project(folder: Path, *entries: Mapping[str, Any], **schedule: Any) -> Path:
    """params.yaml, a manifest with CONCEPTS, requests.yaml; its runs folder holds a registry with one version
    to copy."""
    images = folder / "images"
    images.mkdir(parents=True)
    rows = [
        ["a.png", name, "any", "noto", "noto", "1", "MIT", "0" * 64, "64", "64", "train"] for name in CONCEPTS
    ]
    (images / "manifest.csv").write_text("\n".join(",".join(row) for row in [list(COLUMNS), *rows]) + "\n")
    settings = {"data": {"images": str(images)}, "schedule": {"lease_seconds": 4, **schedule}}
    (folder / "params.yaml").write_text(yaml.safe_dump(settings))
    write(folder, *entries)
    return folder


def prototype(runs: Path, scratch: Path, **metrics: float) -> dict[str, str]:
    """Register one adapter by the real `register`; what the stand-in copies."""
    result, params, lineage, run_dir = finished_run(scratch, model_prefix="prototype")
    lineage["outputs"] |= {"metrics": {**GOOD, **metrics}, "base_metrics": BASE}
    lineage["checks"] = {"data": [{"name": "unique", "severity": "critical", "success": True}]}
    Lineage(lineage).save(run_dir / "lineage.json")
    done = register(result, params, lineage, run_dir, runs=runs)
    return {"name": done.name, "version": done.version}


def where(folder: Path) -> Project:
    return Project(folder / "params.yaml", folder / "runs")


def eraser(
    folder: Path, proto: Mapping[str, str], seconds: float = 0.0, before: Callable[[], None] = lambda: None
) -> Any:
    """As `flows.erase.erase` in what it takes, registers and returns; it says in a file when it began and
    ended."""

    def erase(
        target: str, params: Mapping[str, Any], *, request: Mapping[str, Any], runs: str, **_: Any
    ) -> dict[str, Any]:
        tracking = connect(Path(runs))
        note(folder, "began", target)
        before()
        time.sleep(seconds)
        one = tracking.client.get_model_version(proto["name"], proto["version"])
        confirm(tracking, Lease(**request["lease"]))
        name = f"fade-{slug(target)}"
        ensure_model(tracking, name)
        source = f"models:/{one.name}/{one.version}"  # MLflow's server takes no folder of another model
        made = tracking.client.create_model_version(
            name, source, one.run_id, tags={**one.tags, **request["marks"]}
        )
        note(folder, "ended", target)
        return {"model_name": name, "model_version": str(made.version)}

    return erase


def note(folder: Path, what: str, target: str) -> None:
    with (folder / "notes.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps([what, target, os.getpid()]) + "\n")


def notes(folder: Path) -> list[tuple[str, str, int]]:
    path = folder / "notes.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [tuple(json.loads(line)) for line in lines]


def main(argv: Sequence[str]) -> int:
    folder, seconds = Path(argv[0]), float(argv[1]) if len(argv) > 1 else 0.0
    proto = json.loads((folder / "prototype.json").read_text(encoding="utf-8"))
    outcomes: list[Outcome] = []
    worker = Worker(where(folder), eraser(folder, proto, seconds), on_outcome=outcomes.append)
    sys.stdout.write(json.dumps([one.to_json() for one in worker.run()]) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
