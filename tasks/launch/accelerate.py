"""Launch (accelerate): the trainer as a process group of its own, for a job that is there or ahead of one
that will come.

Half of a short training's time is a process that imports its libraries. Launched ahead it has done so by the
time the job is known."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fade
from fade.errors import StorageError
from fade.training import job as files
from fade.training.determinism import FIXED, WORKSPACE
from fade.training.job import Job
from fade.training.worker import WAIT
from fade.utils.files import make_folder, read_json, write_json, write_whole
from fade.utils.parent import PARENT
from tasks import twin
from tasks.launch.process_group import Group

if TYPE_CHECKING:
    from fade.run.context import RunContext

CONFIG = "accelerate.json"
AHEAD, NOTE = "ahead", "job"


def launch(asked: Sequence[str], processes: int, device: str, folder: Path) -> Group:
    """Start the trainer with the arguments ``asked``; its log and the launcher's config go to ``folder``.

    device: ``cpu`` or ``cuda``. Raises OSError.
    """
    write_json(folder / CONFIG, launcher_config(processes, device))
    argv, env = command(asked, processes, device, folder / CONFIG), environment(processes, device)
    if processes == 1:
        argv, env = unfolded(argv, env)
    log = folder / files.LOG
    return Group(
        argv,
        log=log,
        env=env,
        leader=twin.take(argv, env, log) if processes == 1 and device == "cpu" else None,
    )


def command(asked: Sequence[str], processes: int, device: str, config: Path) -> list[str]:
    """The launcher's argument list: ``accelerate launch``, or torchrun for several processes on the CPU.

    ``accelerate launch --cpu --num_processes 2`` would silently start one process. Every choice is explicit
    and the config file is ours, because a user's default_config.yaml is read otherwise."""
    n, trainer = processes, ["--module", "fade.training.worker", *asked]
    multi = ["--multi_gpu", "--gpu_ids", "all", "--main_process_port", "0"]
    if device == "cpu" and n > 1:
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
        return [*torchrun, "--nproc-per-node", str(n), *trainer]
    return [
        *(sys.executable, "-m", "accelerate.commands.launch", "--quiet"),
        *("--config_file", str(config)),
        *("--num_processes", str(n), "--num_machines", "1", "--machine_rank", "0"),
        *("--mixed_precision", "no", "--dynamo_backend", "no"),  # the trainer chooses its precision itself
        *("--num_cpu_threads_per_process", str(threads(n))),
        *(["--cpu"] if device == "cpu" else ["--gpu_ids", "0"] if n == 1 else multi),
        *trainer,
    ]


def unfolded(argv: Sequence[str], env: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """The one process that ``accelerate launch`` would start, and its environment, by accelerate's own
    functions.

    As a process of its own the launcher imports torch, two seconds on a busy core, to start this one and
    wait. It still is one where this accelerate has other functions."""
    try:
        from accelerate.commands.launch import (
            _validate_launch_command,
            launch_command_parser,
            prepare_simple_launcher_cmd_env,
        )
    except ImportError:
        return list(argv), dict(env)
    args, *_ = _validate_launch_command(launch_command_parser().parse_args(argv[3:]))
    users = {
        name: os.environ.pop(name) for name in list(os.environ) if name.startswith("ACCELERATE_")
    }  # see `environment`
    try:
        line, whole = prepare_simple_launcher_cmd_env(args)
        added = {name: value for name, value in whole.items() if os.environ.get(name) != value}
    finally:
        os.environ.update(users)
    return line, {**env, **added}


def launcher_config(processes: int, device: str) -> dict[str, Any]:
    """accelerate's own config file, saying the same as the flags."""
    return {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": "MULTI_GPU" if device != "cpu" and processes > 1 else "NO",
        "mixed_precision": "no",
        "use_cpu": device == "cpu",
        "num_processes": processes,
        "num_machines": 1,
        "machine_rank": 0,
        "debug": False,
    }


def environment(processes: int, device: str) -> dict[str, str]:
    """The trainer's environment: ours, its thread count, the package's folder, and who waits for it."""
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


class Ahead:
    """A trainer that waits for its job. ``folder`` is its own: what lies there is taken for an earlier one's
    and removed.

    Raises OSError or StorageError when it cannot be started.
    """

    def __init__(self, folder: Path, processes: int, device: str) -> None:
        self._folder, self._fits = folder, (processes, device)
        shutil.rmtree(folder, ignore_errors=True)
        make_folder(folder)
        self._group = launch([WAIT, str(folder / NOTE)], processes, device, folder)

    def begin(self, job: Job, device: str) -> Group | None:
        """Give it ``job``, whose file is written, and hand over its group; None when it was started for
        another kind of job, or died.

        Raises OSError or StorageError.
        """
        if self._fits != (job.train.processes, device) or not self._group.runs():
            return None
        write_json(
            job.out / CONFIG, launcher_config(*self._fits)
        )  # a copy: the launcher may not have read its own yet
        os.replace(self._folder / files.LOG, job.out / files.LOG)
        write_whole(self._folder / NOTE, str((job.out / files.JOB).absolute()).encode(), stage="train")
        return self._group

    def close(self) -> None:
        """Stop it, and remove what it leaves."""
        self._group.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


@contextmanager
def launched_ahead(run: RunContext) -> Iterator[Ahead | None]:
    """The trainer of ``run``'s target, while the flow works on what it needs; to be entered when the target
    is held.

    None where none could be started (a full disk, say): whoever needs it meets the fault again, and says so.
    None, too, where these settings have been trained before, as then nobody will need it."""
    if _trained(run):
        yield None
        return
    from fade.models.stable_diffusion import pick_device

    try:
        waiting = Ahead(run.home / AHEAD, run.params.train.processes, pick_device())
    except (OSError, StorageError):
        yield None
        return
    try:
        yield waiting
    finally:
        waiting.close()


def _trained(run: RunContext) -> bool:
    """Whether the target's folder holds a finished training of the same settings. A guess: models and code
    may have changed."""
    found = [read_json(done.with_name(files.JOB)) for done in run.home.glob(f"*/{files.DONE}")]
    origins = [job.get("provenance", {}) for job in found if isinstance(job, dict)]
    return any(origin.get("params_sha256") == run.params.sha256() for origin in origins)
