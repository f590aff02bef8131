"""What a training step sees: clean latents, prompts, noise and rate, every draw named by (seed, step,
micro-batch, rank).

No generator lives longer than a step, so a resumed training draws what an uninterrupted one would have drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fade.config import TrainConfig
from fade.data.vocabulary import fill, prompts
from fade.erasers.base import ErasureBatch, Extras, Preparation, Schedule, get_eraser
from fade.errors import DataError
from fade.training.settings import ErasureTarget, TrainingSettings
from fade.training.shared_latents import noised_pictures, partial_trajectories
from fade.utils.hashing import sha256_of
from fade.utils.seeds import named_seed

if TYPE_CHECKING:
    from fade.models.base import DiffusionModel
    from fade.models.conditioning import Conditioning

STAGE = "train"
Original = Callable[[], AbstractContextManager[None]]
"""Within it the base is the original model, without the adapter that is trained."""


class BatchSampler:
    """Batches by number: the clean latents and prompts of a job, and the noise that a step puts on them.

    A batch is all of one subject: with several, they take turns, each with its own neighbours.
    """

    def __init__(
        self, job: TrainingSettings, base: DiffusionModel, latents: Sequence[tuple[Tensor, Tensor]]
    ) -> None:
        self._micro = job.train.gradient_accumulation
        self._subjects = [
            _TargetSampler(job, subject, base, *pair)
            for subject, pair in zip(job.subjects, latents, strict=True)
        ]

    def batch(
        self, step: int, micro: int = 0, rank: int = 0, world: int = 1, original: Original = nullcontext
    ) -> ErasureBatch:
        """The batch of one micro-step on one process, on the base's device."""
        subject, own = self._target_of(step, micro)
        return subject.batch(step, micro, rank, world, own, original)

    def indices(
        self, step: int, micro: int, rank: int, world: int
    ) -> tuple[Tensor, Tensor, Tensor, torch.Generator]:
        """What the batch shows: see ``_TargetSampler.indices``."""
        subject, own = self._target_of(step, micro)
        return subject.indices(step, micro, rank, world, own)

    def _target_of(self, step: int, micro: int) -> tuple[_TargetSampler, int]:
        """Whose micro-step it is, and how many it has had before."""
        position = step * self._micro + micro
        return self._subjects[position % len(self._subjects)], position // len(self._subjects)

    def one_each(self) -> list[ErasureBatch]:
        """A batch of every subject, for a closed form that takes no steps."""
        return [subject.batch(0, 0, 0, 1, 0, nullcontext) for subject in self._subjects]


class _TargetSampler:
    """The draws of one subject."""

    def __init__(
        self,
        job: TrainingSettings,
        subject: ErasureTarget,
        base: DiffusionModel,
        target: Tensor,
        neighbours: Tensor,
    ) -> None:
        self._train, self._base = job.train, base
        self._target, self._neighbours = target, neighbours  # (m, C, h, w), (K, m, C, h, w), CPU
        eraser = get_eraser(job.method.name, job.method.variant)
        template, other = eraser.prompt or job.prompt, job.method.replacement
        self._e = base.encode([fill(template, subject.target)])
        self._null = base.encode([job.negative_prompt])
        self._r = base.encode([fill(template, other)]) if other else self._null
        self._a = base.encode(prompts(template, subject.neighbours)) if subject.neighbours else self._e[:0]
        self._shared = eraser.latents
        self._words: dict[str, Conditioning] = {}
        if self._shared is not None:
            words = {"templates": [fill(one, subject.target) for one in self._shared.templates]}
            words["anchor"] = [fill(template, subject.family)] if self._shared.of == "family" else []
            self._words = {name: base.encode(some) for name, some in words.items() if some}
        self._extras: Extras = lambda generator: {}
        if eraser.prepare is not None:
            target_prompt = Preparation(
                base,
                template,
                subject.target,
                self._e,
                job.heldout,
                job.train.batch_target,
                job.train.seed,
                self._null,
                self._a,
                subject.neighbours,
                other,
                self._r,
            )
            self._extras = eraser.prepare(target_prompt, eraser.config_of(job.method))

    def indices(
        self, step: int, micro: int, rank: int, world: int, own: int
    ) -> tuple[Tensor, Tensor, Tensor, torch.Generator]:
        """(n_t,) target pictures, (n_a,) neighbours, (n_a,) their pictures, and the generator for what
        follows.

        Neighbours take turns, so that over the steps each is seen equally often also when n_a is no multiple
        of K. ``own``: how many micro-steps this subject has had before."""
        generator = torch.Generator().manual_seed(named_seed(self._train.seed, step, micro, rank))
        n_t, n_a, k = self._train.batch_target, self._train.batch_neighbours, len(self._neighbours)
        position = (own * world + rank) * n_a
        picked = torch.randint(len(self._target), (n_t,), generator=generator)
        which = (position + torch.arange(n_a)) % k if k else torch.empty(0, dtype=torch.long)
        shown = torch.randint(self._neighbours.shape[1], (len(which),), generator=generator)
        return picked, which, shown, generator

    def batch(
        self, step: int, micro: int, rank: int, world: int, own: int, original: Original
    ) -> ErasureBatch:
        """See ``BatchSampler.batch`` and ``indices``."""
        picked, which, shown, generator = self.indices(step, micro, rank, world, own)
        clean = torch.cat([self._target[picked], self._neighbours[which, shown]])  # (n_t + n_a, C, h, w)
        t = self._base.sample_times(len(clean), generator)
        noise = torch.randn(clean.shape, generator=generator)
        x = self._base.add_noise(clean, noise, t)
        extra = self._extras(generator)  # last: what other erasers sample stays what it was
        device, n_t = self._base.device, len(picked)
        x, t, which = x.to(device), t.to(device), which.to(device)
        prompts = (self._e, self._null, self._a, which, self._r)
        batch = ErasureBatch(x[:n_t], t[:n_t], x[n_t:], t[n_t:], *prompts, extra)
        return batch if self._shared is None else self._with_shared(batch, n_t, generator, original)

    def _with_shared(
        self, batch: ErasureBatch, n: int, generator: torch.Generator, original: Original
    ) -> ErasureBatch:
        """The batch with the latents of ``eraser.latents`` in the place of the target's."""
        shared = self._shared
        assert shared is not None
        if shared.by == "stored":
            stored = (self._target, self._neighbours, n, generator)
            x, t = noised_pictures(self._base, shared, *stored)
        else:
            anchor = self._words.get("anchor", self._e)
            others = [self._words["templates"]] if shared.templates else []
            others += [self._a] if shared.neighbours else []
            trajectories = (anchor.join(*others), self._null, n, generator, original)
            x, t = partial_trajectories(self._base, shared, *trajectories)
        device = self._base.device
        return replace(batch, x=x.to(device), t=t.to(device), extra={**batch.extra, **self._words})


def rate(step: int, config: TrainConfig, schedule: Schedule = "decay") -> float:
    """Learning rate of 0-based ``step``: linear warm-up to ``lr``, then linear decay that reaches 0 after the
    last step.

    ``ramp``: warm-up over all steps, no decay (FADE's released recipe). ``constant``: neither.
    """
    if schedule == "constant":
        return config.lr
    warmup = config.steps if schedule == "ramp" else config.warmup
    if step < warmup:
        return config.lr * (step + 1) / warmup
    return config.lr * (config.steps - step) / (config.steps - warmup)


def latent_names(index: int) -> tuple[str, str]:
    """The names of a subject's two tensors in the file of clean latents."""
    return f"{index}.target", f"{index}.neighbours"


def read_latents(job: TrainingSettings) -> list[tuple[Tensor, Tensor]]:
    """Of each subject its pictures (m, C, h, w) and its neighbours' (K, m, C, h, w), float32.

    Raises DataError when the file is not what the job says.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    action = "delete the file and mine again."
    try:
        if sha256_of(job.latents) != job.latents_sha256:
            raise DataError(
                f"{job.latents} is not the file that the job names (its sha256 differs).",
                stage=STAGE,
                action=action,
            )
        tensors = load_file(str(job.latents))
        pairs = [
            (tensors[t].float(), tensors[n].float()) for t, n in map(latent_names, range(len(job.subjects)))
        ]
    except (OSError, SafetensorError, KeyError) as error:
        raise DataError(f"{job.latents} cannot be read: {error}.", stage=STAGE, action=action) from error
    for subject, pair in zip(job.subjects, pairs, strict=True):
        _check(job, subject, *pair, action)
    return pairs


def _check(
    job: TrainingSettings, subject: ErasureTarget, target: Tensor, neighbours: Tensor, action: str
) -> None:
    """Raises DataError for latents of another shape than the job's, or that are not finite."""
    k = len(subject.neighbours)
    if (
        target.ndim != 4
        or neighbours.ndim != 5
        or len(neighbours) != k
        or neighbours.shape[2:] != target.shape[1:]
        or not len(target)
    ):
        shapes = f"target {tuple(target.shape)}, neighbours {tuple(neighbours.shape)} for {k} neighbours"
        raise DataError(f"{job.latents} has the wrong shapes: {shapes}.", stage=STAGE, action=action)
    if not bool(torch.isfinite(target).all() and torch.isfinite(neighbours).all()):
        raise DataError(f"{job.latents} holds values that are not finite.", stage=STAGE, action=action)
