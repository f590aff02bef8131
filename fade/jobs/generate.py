"""Pictures by several processes: the unit of distribution is the generator's fixed batch (our design).

The composition of a batch decides the last bits of its pictures, so no batch is ever divided: each process
claims whole batches that the cache lacks and writes them to the cache, which whoever needs the pictures reads
afterwards. Nothing is gathered, and the bytes are those of one process with as many threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from fade.adapters.lora import LoraAdapter
from fade.config import ModelConfig, SamplerConfig
from fade.config.section import Affects, Positive
from fade.errors import AdapterError, BaseModelError
from fade.generation import generator as pictures
from fade.generation.cache import Cache
from fade.generation.generator import ImageGenerator
from fade.jobs.base import Job, OnProgress, worker_device
from fade.jobs.self_tests import base_self_test
from fade.models.base import DiffusionModel
from fade.models.loading import suppress_library_output
from fade.models.memory import load_fitting
from fade.training.determinism import enable_determinism
from fade.utils.hashing import sha256_of
from fade.utils.parent import raise_if_orphaned


class ModelJob(Job):
    """A job on the original model, or on it with an adapter merged."""

    base: Annotated[str, Affects("nothing")]
    """Directory (or hub id) of the original model."""
    base_sha256: str
    """What ``load_model(base).sha256`` must be."""
    model: ModelConfig = ModelConfig()
    """How it is held in memory."""
    adapter: Annotated[Path | None, Affects("nothing")] = None
    """The adapter's file; None: the base alone."""
    adapter_sha256: str = ""
    """Hash of that file; empty without an adapter."""
    processes: Annotated[Positive, Affects("nothing")] = 1
    """Number of processes that share the work."""

    @model_validator(mode="after")
    def _adapter_and_its_hash(self) -> Self:
        # With a hash alone, pictures by the base would be kept as the adapter's.
        if (self.adapter is None) != (not self.adapter_sha256):
            raise ValueError("adapter and adapter_sha256 go together")
        return self

    @property
    def world_size(self) -> int:
        return self.processes

    def load_base(self, device: str) -> DiffusionModel:
        """The original model on this process's device. Raises BaseModelError for another than the job's, and
        as `Job.check_self_test`."""
        suppress_library_output()
        device = worker_device(device)
        if device != "cpu":
            enable_determinism()  # before the first product on the GPU
        base = self.check_base(load_fitting(self.base, self.model, device=device))
        self.check_self_test("base", lambda: base_self_test(base))
        return base

    def check_base(self, base: DiffusionModel) -> DiffusionModel:
        """``base``. Raises BaseModelError when it is another than the job's."""
        if not base.is_base(self.base_sha256):
            what = f"{self.base} is {base.sha256[:12]}, the job was written for {self.base_sha256[:12]}."
            action = "start the run again with this base, or restore the other."
            raise BaseModelError(what, stage=self.STAGE, action=action)
        return base

    @contextmanager
    def merged(self, base: DiffusionModel) -> Iterator[LoraAdapter | None]:
        """Inside, the job's adapter is in the UNet's weights, as in the evaluation.

        Raises AdapterError for another file than the job's."""
        if self.adapter is None:
            yield None
            return
        if not self.adapter.is_file() or sha256_of(self.adapter) != self.adapter_sha256:
            what = f"{self.adapter} is not the adapter {self.adapter_sha256[:12]} that the job names."
            raise AdapterError(what, stage=self.STAGE, action="start the run again.")
        lora = LoraAdapter.load(base, self.adapter)
        try:
            lora.merge()
            for parameter in lora.parameters():
                parameter.requires_grad_(False)  # one that stays beside the weights would keep activations
            yield lora
        finally:
            lora.remove()


class GenerateJob(ModelJob):
    """``len(seeds)`` pictures of each prompt, in the cache."""

    KIND: ClassVar[str] = "generate"
    STAGE: ClassVar[str] = "generate"
    CODE: ClassVar[tuple[str, ...]] = ("adapters", *pictures.CODE)

    sampler: SamplerConfig
    """How the pictures are made; its batch size divides the prompts into batches."""
    prompts: tuple[str, ...] = Field(min_length=1)
    """All prompts of the call, those whose pictures the cache holds included: they decide the batches."""
    seeds: tuple[int, ...] = Field(min_length=1)
    """Seeds of the initial latents of each prompt's pictures."""
    cache: Annotated[Path, Affects("nothing")]
    """Root of the cache."""

    def run(self, rank: int, world: int, on_progress: OnProgress, *, device: str, **loaded: Any) -> None:
        """Make what the cache lacks, together with the other ranks.

        Raises JobError for another number of processes than the job's, BaseModelError or AdapterError for
        another base or adapter file, StorageError, TrainingError when the process that waits is gone."""
        self.check_rank(rank, world)

        def on_batch(done: int, total: int) -> None:
            on_progress(done, total, "")
            raise_if_orphaned()

        given = loaded.get("base")
        base = self.load_base(device) if given is None else self.check_base(given)
        generator = ImageGenerator(base, self.sampler, Cache(self.cache))
        with self.merged(base):
            generator.share(self.prompts, self.seeds, self.adapter_sha256, on_batch, rank=rank, world=world)
        self.finish(rank, generator.generated)
