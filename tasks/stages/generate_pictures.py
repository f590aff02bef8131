"""Pictures by several processes, or by a pool of GPU machines: what the cache lacks is made by a job."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fade.utils import progress
from tasks.launch.run_job import run_for, runs_here

if TYPE_CHECKING:
    from fade.generation.generator import OnBatch
    from fade.run.context import RunContext

FOLDER = "generate"
"""Folder of the jobs' files in the run's folder."""


@contextmanager
def distributed(run: RunContext, adapter: Path | None = None) -> Iterator[None]:
    """Inside, a job makes the pictures that the cache of ``run.generator`` lacks, by ``train.processes``
    processes or where ``schedule.train_deployment`` says.

    One process without a deployment makes them itself. adapter: file of the adapter that the caller has
    inserted."""
    if runs_here(run):
        yield
        return

    def workers(prompts: Sequence[str], seeds: Sequence[int], adapter_sha256: str, on_batch: OnBatch) -> int:
        return generate(run, prompts, seeds, (adapter, adapter_sha256) if adapter_sha256 else None, on_batch)

    run.generator.workers = workers
    try:
        yield
    finally:
        run.generator.workers = None


@contextmanager
def announced(run: RunContext, stage: str, pictures: int, text: str) -> Iterator[None]:
    """Says before the pictures of a stage are made how many they are and how long they take on this device;
    keeps afterwards what they took."""
    from fade.generation.cost import estimate, note_pace

    here = runs_here(run)
    if pictures:
        cost = estimate(run.generator, pictures, here=here)
        progress.report(stage, 0, pictures, ", ".join(filter(None, (text, cost))))
    yield
    note_pace(run.generator, here=here)


def generate(
    run: RunContext,
    prompts: Sequence[str],
    seeds: Sequence[int],
    adapter: tuple[Path | None, str] | None = None,
    on_batch: OnBatch = lambda done, total: None,
) -> int:
    """Have a job make the pictures that the cache lacks. Returns the number made.

    adapter: file and sha256 of the adapter that is merged; None: the base. on_batch: called with the pictures
    made so far and those to make, of all ranks that have begun. Raises what `tasks.launch.run_job` does; what
    was made by then stays in the cache."""
    from fade.jobs.generate import GenerateJob

    path, sha256 = adapter or (None, "")
    job = GenerateJob(
        base=run.models.base.path,
        base_sha256=run.models.base.sha256,
        model=run.params.model,
        sampler=run.generator.sampler,
        prompts=tuple(prompts),
        seeds=tuple(seeds),
        adapter=path,
        adapter_sha256=sha256,
        cache=run.generator.cache.root,
        processes=run.params.train.processes,
        out=run.folder / FOLDER,
    )
    job = job.model_copy(update={"out": job.out / job.key()[:12]})
    run_for(run, job, lambda done, total, text: on_batch(done, total), reuse=False)
    return job.made() or 0
