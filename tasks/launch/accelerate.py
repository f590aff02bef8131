"""Start the workers of a job (``fade.training.worker``, ``fade.jobs.worker``) on several processes: by
accelerate on GPUs, torchrun on CPUs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import fade
from fade.errors import FadeError, revive
from fade.training.determinism import FIXED, WORKSPACE
from fade.utils.files import SCARCE, disk_full, free_bytes, read_json, write_json
from fade.utils.parent import PARENT
from tasks.launch.process_group import Group

CONFIG = "accelerate.json"


def launch(module: str, job_file: Path, processes: int, device: str, log: Path) -> Group:
    """Start the workers ``module`` for ``job_file``; the launcher's config goes beside it.

    processes: 2 or more. device: ``cpu`` or ``cuda``. log: file of the workers' output. Raises OSError,
    StorageError.
    """
    folder = job_file.parent
    write_json(folder / CONFIG, launcher_config(processes))
    argv = command(module, job_file, processes, device, folder / CONFIG)
    return Group(argv, log=log, env=environment(processes, device))


def command(module: str, job_file: Path, processes: int, device: str, config: Path) -> list[str]:
    """The launcher's argument list.

    ``accelerate launch --cpu --num_processes 2`` would silently start one process, hence torchrun there. For
    accelerate every choice is explicit and the config file is ours, because a user's default_config.yaml is
    read otherwise."""
    worker = ["--module", module, str(job_file)]
    if device == "cpu":
        torchrun = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nnodes",
            "1",
            "--max-restarts",
            "0",
        ]
        return [*torchrun, "--nproc-per-node", str(processes), *worker]
    return [
        *(sys.executable, "-m", "accelerate.commands.launch", "--quiet"),
        *("--config_file", str(config)),
        *("--num_processes", str(processes), "--num_machines", "1", "--machine_rank", "0"),
        *("--mixed_precision", "no", "--dynamo_backend", "no"),  # the worker chooses its precision itself
        *("--num_cpu_threads_per_process", str(threads(processes))),
        *("--multi_gpu", "--gpu_ids", "all", "--main_process_port", "0"),
        *worker,
    ]


def launcher_config(processes: int) -> dict[str, Any]:
    """accelerate's own config file, with the same content as the flags."""
    return {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": "MULTI_GPU",
        "mixed_precision": "no",
        "use_cpu": False,
        "num_processes": processes,
        "num_machines": 1,
        "machine_rank": 0,
        "debug": False,
    }


def environment(processes: int, device: str) -> dict[str, str]:
    """A worker's environment: ours, its thread count, the package's folder, and the process that waits for
    it."""
    home = str(Path(fade.__file__).resolve().parents[1])
    path = os.pathsep.join(part for part in (home, os.environ.get("PYTHONPATH", "")) if part)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ACCELERATE_")}
    extra = {"ACCELERATE_USE_CPU": "true"} if device == "cpu" else {WORKSPACE: FIXED}
    count = str(threads(processes))
    return {
        **inherited,
        **extra,
        "PYTHONPATH": path,
        "OMP_NUM_THREADS": count,
        PARENT: str(os.getpid()),
        "PYTHONUNBUFFERED": "1",
    }


def threads(processes: int) -> int:
    """CPU threads of each process: OMP_NUM_THREADS when it is set, else the cores that this process may use,
    shared out."""
    return int(os.environ.get("OMP_NUM_THREADS") or max(1, len(os.sched_getaffinity(0)) // processes))


def worker_error(
    error_file: Path, log: Path, status: int, stage: str, otherwise: type[FadeError], who: str
) -> FadeError:
    """What a worker wrote to ``error_file`` before it ended with ``status``.

    Else ``otherwise``, which names ``who`` and the end of the workers' log, or StorageError when the disk is
    full."""
    written = read_json(error_file)
    if isinstance(written, dict):
        return revive(written["type"], written["what"], written["stage"], written["action"])
    if free_bytes(log) < SCARCE:  # then no worker could write why
        return disk_full(error_file.parent, stage)
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
    tail = " | ".join(line.strip() for line in lines) or "no output (out of memory, or killed?)"
    what = f"{who} stopped with status {status}: {tail}."
    return otherwise(what, stage=stage, action=f"see {log}; running again resumes.")
