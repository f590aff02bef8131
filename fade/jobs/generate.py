"""Pictures by several processes: the unit of distribution is the generator's fixed batch. Ours.

The composition of a batch decides the last bits of its pictures, so no batch is ever divided: rank r of n
makes the batches r, r + n, r + 2 n, ... that the cache lacks and writes them to the cache, which whoever
needs the pictures reads afterwards. Nothing is gathered, and the bytes are those of one process with as many
threads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Self

import torch
from pydantic import Field, model_validator

from fade.adapters.lora import LoraAdapter
from fade.config import SamplerConfig
from fade.errors import AdapterError, BaseModelError, FadeError, JobError, StorageError
from fade.generation import generator as pictures
from fade.generation.cache import Cache
from fade.generation.generator import ImageGenerator, OnBatch
from fade.jobs.base import Job
from fade.models import Base
from fade.models.stable_diffusion import pick_device, suppress_library_output
from fade.training.determinism import enable_determinism
from fade.utils.hashing import sha256_of
from fade.utils.parent import raise_if_orphaned

STAGE = "generate"


class GenerateJob(Job):
    """``len(seeds)`` pictures of each prompt, by the base or by the base with an adapter merged into it."""

    CODE: ClassVar[tuple[str, ...]] = ("adapters", *pictures.CODE)
    LIBRARIES: ClassVar[tuple[str, ...]] = ("diffusers", "peft", "torch", "transformers")
    NOT_IN_KEY: ClassVar[frozenset[str]] = Job.NOT_IN_KEY | {"adapter", "base", "cache"}

    base: str
    """Directory (or hub id) of the original model."""
    base_sha256: str
    """What ``Base.load(base).sha256`` must be."""
    sampler: SamplerConfig
    """How the pictures are made; its batch size divides the prompts into batches."""
    prompts: tuple[str, ...] = Field(min_length=1)
    """All prompts of the draw, those whose pictures the cache holds included: they decide the batches."""
    seeds: tuple[int, ...] = Field(min_length=1)
    """Seeds of the initial latents of each prompt's pictures."""
    adapter: Path | None = None
    """The adapter's file; None: the base draws."""
    adapter_sha256: str = ""
    """Hash of that file, which is in the pictures' keys; empty without an adapter."""
    cache: Path
    """Root of the cache."""

    @model_validator(mode="after")
    def _adapter_and_its_hash(self) -> Self:
        # With a hash alone, pictures by the base would be kept as the adapter's.
        if (self.adapter is None) != (not self.adapter_sha256):
            raise ValueError("adapter and adapter_sha256 go together")
        return self


def run(job: GenerateJob, rank: int, world: int, on_progress: OnBatch = lambda done, total: None) -> int:
    """Make the part of process ``rank`` of ``world`` and write it to the cache; the number of pictures made.

    on_progress: called after each batch with the pictures made and those to make, of this rank. Raises
    JobError for another number of processes than the job's, BaseModelError or AdapterError for another base
    or adapter file, StorageError, TrainingError when the process that waits is gone."""
    if world != job.processes or not 0 <= rank < world:
        what = f"process {rank} of {world} started where the job is for {job.processes} process(es)."
        action = "start it by torchrun; `accelerate launch --cpu --num_processes N` starts only one process."
        raise JobError(what, stage=STAGE, action=action)

    def follow(done: int, total: int) -> None:
        on_progress(done, total)
        raise_if_orphaned()

    suppress_library_output()
    device = _device()
    if device != "cpu":
        enable_determinism()  # before the first product on the GPU
    base = Base.load(job.base, device=device)
    if base.sha256 != job.base_sha256:
        what = f"{job.base} is {base.sha256[:12]}, the job was written for {job.base_sha256[:12]}."
        action = "start the run again with this base, or restore the other."
        raise BaseModelError(what, stage=STAGE, action=action)
    generator = ImageGenerator(base, job.sampler, Cache(job.cache))
    with _merged(job, base):
        generator.generate(job.prompts, job.seeds, job.adapter_sha256, follow, rank=rank, world=world)
    job.finish(rank, generator.generated)
    return generator.generated


@contextmanager
def _merged(job: GenerateJob, base: Base) -> Iterator[None]:
    """Inside, the job's adapter is in the UNet's weights, as in the evaluation.

    Raises AdapterError for another file than the job's."""
    if job.adapter is None:
        yield
        return
    if not job.adapter.is_file() or sha256_of(job.adapter) != job.adapter_sha256:
        what = f"{job.adapter} is not the adapter {job.adapter_sha256[:12]} that the job names."
        raise AdapterError(what, stage=STAGE, action="start the run again.")
    lora = LoraAdapter.load(base, job.adapter)
    try:
        lora.merge()
        yield
    finally:
        lora.remove()


def _device() -> str:
    """``cpu``, or this process's own GPU by LOCAL_RANK."""
    if os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes") or pick_device() == "cpu":
        return "cpu"
    return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"


def explain(error: Exception) -> FadeError:
    """An error of this package as it is; one of the machine (memory, disk) or the code as Job- or
    StorageError."""
    if isinstance(error, FadeError):
        return error
    if isinstance(error, torch.OutOfMemoryError):
        return JobError("the device ran out of memory.", stage=STAGE, action="lower sampler.batch_size.")
    action = "run it again: it makes only what the cache lacks."
    if isinstance(error, OSError) and error.errno is not None:
        return StorageError(f"{error.filename or 'the cache'}: {error.strerror}.", stage=STAGE, action=action)
    return JobError(f"the work stopped: {type(error).__name__}: {error}.", stage=STAGE, action=action)
