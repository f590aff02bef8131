"""Many requests and several workers on a team's servers, while one server after the other is killed.

Starts PostgreSQL, S3, MLflow and Prefect on loopback, writes ``--requests`` requests, and ``--workers``
processes process them as a scheduled pass does: the GPU's slot (Prefect's limit), the lease, the report.
An erasure is a stand-in that waits ``--seconds`` and registers a version. Every ``--kill-every`` seconds one
server, drawn at random, is killed (KILL) and started again.

The record counts what must hold: every request is done, by one version and one report; no slot of the limit
is taken at the end; every log verifies. It also has the memory and the open files of each process, sampled.

    python bench/load.py --requests 200 --workers 8 --minutes 30 --out bench/results/load.json"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import psutil

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO))

from fade.errors import FadeError  # noqa: E402 (this file is a script)
from flows.local_stack.stack import LocalStack  # noqa: E402
from flows.server.gpu_slot import ensure_gpu_limit, gpu_slot, read_gpu_limit  # noqa: E402
from flows.server.runtime import prepare  # noqa: E402
from tasks.registry.connection import connect  # noqa: E402
from tasks.registry.snapshot import RegistrySnapshot  # noqa: E402
from tasks.requests import status  # noqa: E402
from tasks.requests.leases import RequestSnapshot  # noqa: E402
from tasks.requests.worker import Outcome, Worker  # noqa: E402
from tests.requested import CONCEPTS, entry, eraser, project, prototype, where  # noqa: E402

SAMPLE_SECONDS = 15.0
BACK_SECONDS = 10.0
"""How long a killed server stays away."""


def show(outcome: Outcome) -> None:
    print(f"{outcome.id} {outcome.result} {outcome.version} {outcome.text}", flush=True)


def work(folder: Path, seconds: float) -> None:
    """One worker: passes until every request is done; an unreachable server ends a pass, not the worker."""
    place = where(folder)
    prepare(place.runs)
    proto = json.loads((folder / "prototype.json").read_text(encoding="utf-8"))
    faults = 0
    while True:
        try:
            slot = partial(gpu_slot, place.resolve())
            worker = Worker(place, eraser(folder, proto, seconds), slot, on_outcome=show)
            worker.run()
            if all(one.state == status.SUCCEEDED for one in worker.statuses()):
                break
            time.sleep(2)
        except FadeError as error:
            faults += 1
            print(f"{type(error).__name__}: {error}", flush=True)
            time.sleep(3)
    print(f"all done; {faults} passes ended early", flush=True)


class Sampler:
    """Memory (MiB, of the whole family) and open files of named processes over time."""

    def __init__(self) -> None:
        self.rows: dict[str, list[tuple[float, float, int]]] = {}
        self._began = time.monotonic()

    def sample(self, name: str, pid: int) -> None:
        memory, files = 0, 0
        try:
            parent = psutil.Process(pid)
            for process in [parent, *parent.children(recursive=True)]:
                memory += process.memory_full_info().uss
                files += process.num_fds()
        except psutil.Error:
            return
        at = round(time.monotonic() - self._began, 1)
        self.rows.setdefault(name, []).append((at, round(memory / 2**20, 1), files))

    def summary(self) -> dict[str, dict[str, Any]]:
        """Of each process: medians of the second and of the last fifth of its samples, and the largest."""

        def median(values: list[float]) -> float:
            return sorted(values)[len(values) // 2]

        result = {}
        for name, rows in self.rows.items():
            fifth = max(1, len(rows) // 5)
            early, late = rows[fifth : 2 * fifth] or rows, rows[-fifth:]
            result[name] = {
                "samples": len(rows),
                "mib_early": median([row[1] for row in early]),
                "mib_late": median([row[1] for row in late]),
                "mib_most": max(row[1] for row in rows),
                "files_early": median([row[2] for row in early]),
                "files_late": median([row[2] for row in late]),
                "files_most": max(row[2] for row in rows),
            }
        return result


def outcome(folder: Path) -> dict[str, Any]:
    """What the registry holds at the end."""
    place = where(folder)
    params = place.resolve()
    tracking = connect(place.runs)
    snapshot = RequestSnapshot.load(tracking, params.register_.model_prefix)
    requests = place.requests(params)
    states = status.request_statuses(snapshot, requests, params, place.resolve)
    made: Counter[str] = Counter()
    for version in RegistrySnapshot.load(tracking, params.register_.model_prefix).adapters():
        made.update(tag.removeprefix("request.") for tag in version.tags if tag.startswith("request."))
    reports = {
        one.id: sum(event.kind == "done" for event in snapshot.lease_log(one.id).events) for one in states
    }
    limit = read_gpu_limit(params)
    return {
        "states": dict(Counter(one.state for one in states)),
        "none_made": sorted(one.id for one in states if made[one.id] == 0),
        "made_twice": sorted(name for name, count in made.items() if count > 1),
        "reported_twice": sorted(name for name, count in reports.items() if count > 1),
        "void_events": sum(len(snapshot.lease_log(one.id).void) for one in states),
        "slots_taken": limit.active_slots if limit else None,
    }


def set_up(folder: Path, _: float) -> None:
    """What the workers need: one registered version to copy, and the limit."""
    prepare(folder / "runs")
    proto = prototype(folder / "runs", folder / "made")
    (folder / "prototype.json").write_text(json.dumps(proto))
    ensure_gpu_limit(where(folder).resolve(), change=True)


def conclude(folder: Path, _: float) -> None:
    """Write outcome.json, once no slot is taken or two minutes are over: a lost slot ends with its lease."""
    prepare(folder / "runs")
    wait_for_slots(folder, 120)
    (folder / "outcome.json").write_text(json.dumps(outcome(folder)))


def wait_for_slots(folder: Path, seconds: float) -> None:
    """Until no slot is taken, or the time is up."""
    params, until = where(folder).resolve(), time.monotonic() + seconds
    while (limit := read_gpu_limit(params)) and limit.active_slots and time.monotonic() < until:
        time.sleep(2)


PARTS = {"work": work, "set_up": set_up, "conclude": conclude}
"""What runs in a process of its own: Prefect reads the servers' addresses when it is imported."""


def start(part: str, folder: Path, args: argparse.Namespace, name: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, __file__, "--part", part, str(folder), "--seconds", str(args.seconds)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "FADE_USER": name}
    with (folder / f"{name}.log").open("ab") as log:
        return subprocess.Popen(
            command, cwd=REPO, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )


def finish(part: str, folder: Path, args: argparse.Namespace) -> None:
    if start(part, folder, args, part).wait(600) != 0:
        sys.exit(f"see {folder / part}.log")


def run(args: argparse.Namespace, home: Path) -> dict[str, Any]:
    draw = random.Random(args.seed)
    folder = project(
        home / "project",
        *(entry(f"r{number:03d}", CONCEPTS[number % len(CONCEPTS)]) for number in range(args.requests)),
        lease_seconds=30,
        gpu_limit=args.slots,
    )
    sampler, kills = Sampler(), []
    with LocalStack(home / "servers", worker=False, on_progress=print) as stack:
        os.environ.update(stack.environment)
        finish("set_up", folder, args)
        began = time.monotonic()
        workers = {
            f"worker-{number}": start("work", folder, args, f"worker-{number}")
            for number in range(args.workers)
        }
        next_kill, next_sample, ended = began + args.kill_every, began, 0.0
        restarts = 0
        while time.monotonic() < began + 60 * args.minutes:
            now = time.monotonic()
            if now >= next_sample:
                for name, worker in workers.items():
                    sampler.sample(name, worker.pid)
                for name, server in stack.servers.items():
                    if server.group is not None:
                        sampler.sample(name, server.group.pid)
                next_sample = now + SAMPLE_SECONDS
            if now >= next_kill:
                name = draw.choice(sorted(stack.servers))
                server = stack.servers[name]
                print(f"{now - began:.0f} s: KILL {name}", flush=True)
                server.kill()
                time.sleep(BACK_SECONDS)
                server.start()
                kills.append({"at": round(now - began), "server": name})
                next_kill = now + args.kill_every
            for name, worker in list(workers.items()):
                if worker.poll() not in (None, 0):  # a worker never ends before all is done
                    restarts += 1
                    workers[name] = start("work", folder, args, name)
            if all(worker.poll() == 0 for worker in workers.values()):
                ended = ended or time.monotonic() - began
                if time.monotonic() - began > 60 * args.minutes or args.stop_when_done:
                    break
            time.sleep(1)
        for worker in workers.values():
            if worker.poll() is None:
                worker.terminate()
        finish("conclude", folder, args)
        result = json.loads((folder / "outcome.json").read_text())
    good = (
        result["states"] == {status.SUCCEEDED: args.requests}
        and not (result["none_made"] or result["made_twice"] or result["reported_twice"])
        and result["slots_taken"] == 0
        and restarts == 0
    )
    return {
        "command": f"python bench/load.py --requests {args.requests} --workers {args.workers}"
        f" --slots {args.slots} --seconds {args.seconds:g} --minutes {args.minutes:g}"
        f" --kill-every {args.kill_every:g} --seed {args.seed}",
        "good": good,
        **result,
        "done_after_seconds": round(ended),
        "workers_that_ended": restarts,
        "kills": kills,
        "processes": sampler.summary(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--slots", type=int, default=6, help="of the GPU limit, fewer than workers")
    parser.add_argument("--seconds", type=float, default=25.0, help="that an erasure waits")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--kill-every", type=float, default=180.0, help="seconds")
    parser.add_argument("--seed", type=int, default=0, help="of the servers that are killed")
    parser.add_argument("--stop-when-done", action="store_true", help="instead of idling to the end")
    parser.add_argument("--out", type=Path, help="write the record here, too")
    parser.add_argument("--part", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        part, folder = args.part
        return PARTS[part](Path(folder), args.seconds)
    home = Path(tempfile.mkdtemp(prefix="fade-load-"))
    record = run(args, home)
    text = json.dumps(record, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")
    if record["good"]:
        shutil.rmtree(home)
    sys.exit(not record["good"])


if __name__ == "__main__":
    main()
