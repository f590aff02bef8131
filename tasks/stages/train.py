"""Train: write the job, train it in this process or in several workers, report the steps. Never retried."""

from __future__ import annotations

import json
import os
import shutil
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from fade.errors import CacheError, FadeError, StorageError, TrainingError
from fade.training import job as files
from fade.training.job import ErasureTarget, Job
from fade.utils import progress
from fade.utils.files import read_json, storage_error, write_whole
from fade.utils.hashing import sha256_of
from tasks.launch.accelerate import launch, threads, worker_error

if TYPE_CHECKING:
    from fade.mining.neighborhood import Neighborhood
    from fade.models import Base
    from fade.run.context import RunContext

STAGE = "train"
LATENTS = "latents.safetensors"
Watcher = Callable[[int, int, str], None]
"""Called with the steps done, the steps in all, and losses and speed as text."""


@dataclass(frozen=True)
class Trained:
    """A finished training."""

    adapter: Path
    sha256: str
    history: list[dict[str, float]] = field(repr=False)
    """One row a step: step, loss, its terms, lr, grad_norm."""
    run: dict[str, Any]
    """How it ran: processes, precision, threads, effective batch, resumed_at, seconds."""
    reused: bool
    """True when a finished adapter of the same job was found."""


def train(run: RunContext, neighborhood: Neighborhood, lineage: Mapping[str, str]) -> Trained:
    """Train the target's adapter in the run's folder.

    lineage: ``data_md5`` and ``commit``, for the adapter's header.
    """
    return run_job(write_job(run, neighborhood, lineage), run.base, device=run.base.device.type)


def write_job(run: RunContext, neighborhood: Neighborhood, lineage: Mapping[str, str]) -> Job:
    """Put the mined latents and the job into the run's folder. The mined pictures come from the cache.

    Steps, and the rank where the method fixes a space to the target, are those of one target: several get as
    many each."""
    from fade.erasers.base import get_eraser
    from fade.mining.neighborhood import training_latents
    from fade.models.safetensors_file import canonical_safetensors
    from fade.training.batches import latent_names

    params, n = run.params, len(neighborhood.parts)
    ranks = n if get_eraser(params.method.name, params.method.variant).space is not None else 1
    latents = enumerate(training_latents(neighborhood, run.generator))
    body = canonical_safetensors(
        {name: value for i, pair in latents for name, value in zip(latent_names(i), pair, strict=True)}, {}
    )
    path = run.folder / LATENTS
    write_whole(path, body, stage=STAGE)
    provenance = {
        "concept": neighborhood.target,
        "method": params.method.name,
        "variant": params.method.variant,
        "neighbours": json.dumps(neighborhood.neighbours, ensure_ascii=False),
        "heldout": json.dumps(neighborhood.heldout, ensure_ascii=False),
        "base_sha256": run.base.sha256,
        "params_sha256": params.sha256(),
        "seed": str(params.train.seed),
        **lineage,
    }
    return Job(
        base=run.base.path,
        base_sha256=run.base.sha256,
        subjects=tuple(
            ErasureTarget(target=part.target, neighbours=tuple(part.neighbours))
            for part in neighborhood.parts
        ),
        heldout=_heldout_concepts(run, neighborhood),
        prompt=params.sampler.prompt,
        negative_prompt=params.sampler.negative_prompt,
        latents=path,
        latents_sha256=sha256_of(path),
        mesh=params.mesh.model_copy(
            update={"rank": params.mesh.rank * ranks, "alpha": params.mesh.alpha * ranks}
        ),
        method=params.method,
        train=params.train.model_copy(update={"steps": params.train.steps * n}),
        provenance=provenance,
        out=run.folder,
    )


def _heldout_concepts(run: RunContext, neighborhood: Neighborhood) -> tuple[str, ...]:
    """Concepts that the evaluation will test. Sampling them as retain prompts would leak the test set into
    training."""
    from fade.erasers.base import get_eraser

    if not get_eraser(run.params.method.name, run.params.method.variant).requires_heldout:
        return ()
    known = {*neighborhood.targets, *neighborhood.neighbours}
    return tuple(name for name in run.vocabulary.names if name not in known)


def run_job(
    job: Job, base: Base | None = None, *, device: str = "cpu", watch: Watcher | None = None
) -> Trained:
    """Train ``job``, or take the finished adapter of the same job. Resumes what was interrupted.

    One process (``train.processes``) is this one; several are workers of their own, see
    `tasks.launch.accelerate`. base: the job's model, if it is loaded; several workers load their own. device:
    ``cpu`` or ``cuda``, where ``base`` is. watch: called as the steps go on; by default they are reported
    through ``fade.utils.progress``. Raises whatever the training raised (DivergedError, DataError, ...),
    TrainingError when a worker died or the deadline passed, CacheError when a finished adapter was changed,
    StorageError; checkpoints are kept in all cases."""
    follow = watch or (lambda done, total, text: progress.report(STAGE, done, total, text))
    make_room(job)
    if finished := find_finished(job):
        follow(job.train.steps, job.train.steps, "trained before")
        return finished
    try:
        path = job.write()
        for stale in (files.ERROR, files.PROGRESS, files.LOG):
            (job.out / stale).unlink(missing_ok=True)
        if job.train.processes == 1:
            _train_here(job, base, device, follow)
        else:
            _train_in_workers(job, path, device, follow)
    except OSError as error:
        raise storage_error(error, job.out, STAGE) from error
    finished = find_finished(job, reused=False)
    if finished is None:
        why = (
            "for another job: the code changed while it ran"
            if (job.out / files.DONE).exists()
            else "without an adapter"
        )
        where = job.out / files.LOG if job.train.processes > 1 else job.out
        raise TrainingError(f"the training ended {why}; see {where}.", stage=STAGE, action="run it again.")
    return finished


def _train_here(job: Job, base: Base | None, device: str, follow: Watcher) -> None:
    """Train in this process, whose settings are afterwards as before.

    The deadline is looked at after each step. Raises what `fade.training.loop.train` raises; any other error
    becomes a TrainingError, and its traceback the content of ``train.log``."""
    from fade.models import Base
    from fade.models.stable_diffusion import suppress_library_output
    from fade.training.determinism import enable_determinism
    from fade.training.loop import explain
    from fade.training.loop import train as train_job

    until = time.monotonic() + job.train.deadline_seconds

    def check_deadline(row: Mapping[str, float]) -> None:
        if time.monotonic() > until:
            what = f"the deadline of {job.train.deadline_seconds:g} s passed and the training was stopped."
            raise TrainingError(
                what, stage=STAGE, action="run it again (it resumes), or raise train.deadline_seconds."
            )

    try:
        with _settings_of_a_worker():
            if base is None:
                suppress_library_output()
                if device != "cpu":
                    enable_determinism()  # before the first product on the GPU
                base = Base.load(job.base, device=device)
            train_job(job, base, check_deadline, lambda news: _report(news, follow))
    except FadeError:
        raise
    except Exception as error:
        with suppress(StorageError):
            write_whole(job.out / files.LOG, traceback.format_exc(), stage=STAGE)
        raise explain(error) from error


@contextmanager
def _settings_of_a_worker() -> Iterator[None]:
    """A worker's thread count, on which an adapter's last bits depend; without the user's settings for
    accelerate."""
    import torch

    users = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("ACCELERATE_")}
    before, own = torch.get_num_threads(), threads(1)
    if own != before:
        torch.set_num_threads(own)
    try:
        yield
    finally:
        os.environ.update(users)
        if own != before:
            torch.set_num_threads(before)


def _train_in_workers(job: Job, path: Path, device: str, follow: Watcher) -> None:
    """Train in ``train.processes`` processes. Raises what rank 0 wrote down, else TrainingError or
    StorageError."""
    log = job.out / files.LOG
    group = launch("fade.training.worker", path, job.train.processes, device, log)
    status = group.wait(job.train.deadline_seconds, _ticker(job, follow))
    if status != 0:
        raise worker_error(job.out / files.ERROR, log, status, STAGE, TrainingError, "the trainer")


def find_finished(job: Job, *, reused: bool = True) -> Trained | None:
    """The finished training of the same key in ``job.out``, or None. Raises CacheError when its adapter was
    changed since."""
    done, path = read_json(job.out / files.DONE), job.out / files.ADAPTER
    if not isinstance(done, dict) or done.get("key") != job.key() or not path.is_file():
        return None
    sha256 = sha256_of(path)
    if sha256 != done["adapter_sha256"]:
        what = f"{path} is not the adapter that was trained (its sha256 differs)."
        raise CacheError(what, stage=STAGE, action=f"delete {job.out / files.DONE} to train it again.")
    return Trained(path, sha256, read_json(job.out / files.HISTORY) or [], done["run"], reused)


def _ticker(job: Job, follow: Watcher) -> Callable[[], None]:
    """Reads progress.json and passes news on."""
    began, seen = time.monotonic(), -1

    def tick() -> None:
        nonlocal seen
        now = read_json(job.out / files.PROGRESS)
        if now is None:
            if seen < 0 and time.monotonic() - began > 1:
                follow(0, job.train.steps, "starting")
                seen = 0
        elif now["step"] != seen:
            seen = now["step"]
            _report(now, follow)

    return tick


def _report(now: Mapping[str, Any], follow: Watcher) -> None:
    """Pass on where a training is; ``now``: see `fade.training.loop.OnProgress`."""
    losses = "  ".join(
        f"{name} {value:.3g}" for name, value in now["losses"].items() if name not in ("lr", "grad_norm")
    )
    follow(now["step"], now["steps"], f"{losses}  {now['it_per_s']:.1f} steps/s")


def make_room(job: Job) -> None:
    """Put aside what another job left in the folder; nothing is deleted. Raises StorageError."""
    old = read_json(job.out / files.JOB)
    if not isinstance(old, dict):
        return
    key = str(old.get("key", "unknown"))  # as written then: the code may have changed since
    if key == job.key():
        return
    names = (
        files.JOB,
        files.ADAPTER,
        files.HISTORY,
        files.PROGRESS,
        files.DONE,
        files.ERROR,
        files.LOG,
        files.CHECKPOINTS,
    )
    try:
        superseded = job.out / f"superseded-{key[:12]}"
        while superseded.exists():
            superseded = superseded.with_name(f"{superseded.name}+")
        superseded.mkdir()
        for name in names:
            if (job.out / name).exists():
                shutil.move(str(job.out / name), str(superseded / name))
    except OSError as error:
        raise storage_error(error, job.out, STAGE) from error


train_task = task(name="train", retries=0, cache_policy=NO_CACHE, persist_result=False)(train)
