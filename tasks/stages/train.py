"""Train: write the mined latents and the job, have it run, read its result. Never retried."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from fade.jobs.train import TrainJob
from fade.training.settings import ADAPTER, DONE, HISTORY, ErasureTarget
from fade.utils import progress
from fade.utils.files import read_json, write_whole
from fade.utils.hashing import sha256_of
from tasks.launch.run_job import run_for

if TYPE_CHECKING:
    from torch import Tensor

    from fade.mining.neighborhood import Neighborhood
    from fade.run.context import RunContext

STAGE = "train"
LATENTS = "latents.safetensors"


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
    return train_job(run, write_job(run, neighborhood, lineage))


def train_job(run: RunContext, job: TrainJob) -> Trained:
    """Train ``job`` where the run's parameters place it, or take the finished adapter of the same job.

    Raises whatever the training raised (DivergedError, DataError, ...) and what `tasks.launch.run_job` does;
    checkpoints stay in all cases."""
    steps = job.train.steps

    def on_progress(done: int, total: int, text: str) -> None:
        progress.report(STAGE, done, total, text)

    reused = run_for(run, job, on_progress, base=run.models.base)
    if reused:
        progress.report(STAGE, steps, steps, "trained before")
    return read_result(job, reused=reused)


def read_result(job: TrainJob, *, reused: bool) -> Trained:
    """The result of a job that is finished."""
    done = read_json(job.out / DONE) or {}
    history = read_json(job.out / HISTORY) or []
    return Trained(job.out / ADAPTER, done["adapter_sha256"], history, done["run"], reused)


def write_job(run: RunContext, neighborhood: Neighborhood, lineage: Mapping[str, str]) -> TrainJob:
    """Put the mined latents and the job into the run's folder. The mined pictures come from the cache.

    Steps, and the rank where the method fixes a space to the target, are those of one target: several get as
    many each."""
    from fade.erasers.base import get_eraser
    from fade.models.safetensors_file import canonical_safetensors
    from fade.training.batches import latent_names

    params, n = run.params, len(neighborhood.parts)
    eraser = get_eraser(params.method.name, params.method.variant)
    ranks = n if eraser.space is not None else 1
    latents = enumerate(_latents(run, neighborhood, real=eraser.real_pictures))
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
        "base_sha256": run.models.base.sha256,
        "params_sha256": params.sha256(),
        "seed": str(params.train.seed),
        **lineage,
    }
    return TrainJob(
        base=run.models.base.path,
        base_sha256=run.models.base.sha256,
        model=params.model,
        subjects=tuple(
            ErasureTarget(
                target=part.target,
                neighbours=tuple(part.neighbours),
                family=_broader_concept(run, part.target),
            )
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


def _latents(run: RunContext, neighborhood: Neighborhood, *, real: bool) -> list[tuple[Tensor, Tensor]]:
    """As `fade.mining.neighborhood.training_latents`; ``real``: each target's own pictures in the data set
    after the mined ones. Raises DataError for a target without any."""
    import torch

    from fade.mining.neighborhood import training_latents
    from fade.mining.real_pictures import real_latents

    mined = training_latents(neighborhood, run.generator)
    if not real:
        return mined
    images = run.root / run.params.data.images
    pictures = real_latents(run.models.base, images, neighborhood.targets)
    return [
        (torch.cat([own, pictures[name]]), others)
        for name, (own, others) in zip(neighborhood.targets, mined, strict=True)
    ]


def _heldout_concepts(run: RunContext, neighborhood: Neighborhood) -> tuple[str, ...]:
    """Concepts that the evaluation will test. Sampling them as retain prompts would leak the test set into
    training."""
    from fade.erasers.base import get_eraser

    if not get_eraser(run.params.method.name, run.params.method.variant).requires_heldout:
        return ()
    known = {*neighborhood.targets, *neighborhood.neighbours}
    return tuple(name for name in run.vocabulary.names if name not in known)


def _broader_concept(run: RunContext, target: str) -> str:
    """The target's family for the methods that take its prompt, unless it is a concept of the vocabulary
    itself, which is judged; else empty."""
    from fade.erasers.base import get_eraser

    latents = get_eraser(run.params.method.name, run.params.method.variant).latents
    if latents is None or latents.of != "family":
        return ""
    family = run.vocabulary.family(target)
    return "" if family in run.vocabulary.names else family


train_task = task(name="train", retries=0, cache_policy=NO_CACHE, persist_result=False)(train)
