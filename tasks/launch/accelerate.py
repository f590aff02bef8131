"""Start the workers (``fade.training.worker``) of a training on several processes: by accelerate on GPUs,
torchrun on CPUs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import fade
from fade.training import job as files
from fade.training.determinism import FIXED, WORKSPACE
from fade.utils.files import write_json
from fade.utils.parent import PARENT
from tasks.launch.process_group import Group

CONFIG = "accelerate.json"


def launch(job_file: Path, processes: int, device: str) -> Group:
    """Start the workers for ``job_file``; their log and the launcher's config go beside it.

    processes: 2 or more. device: ``cpu`` or ``cuda``. Raises OSError, StorageError.
    """
    folder = job_file.parent
    write_json(folder / CONFIG, launcher_config(processes))
    argv, env = command(job_file, processes, device, folder / CONFIG), environment(processes, device)
    return Group(argv, log=folder / files.LOG, env=env)


def command(job_file: Path, processes: int, device: str, config: Path) -> list[str]:
    """The launcher's argument list.

    ``accelerate launch --cpu --num_processes 2`` would silently start one process, hence torchrun there. For
    accelerate every choice is explicit and the config file is ours, because a user's default_config.yaml is
    read otherwise."""
    worker = ["--module", "fade.training.worker", str(job_file)]
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
