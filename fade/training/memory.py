"""How much memory a training step needs, and how it is divided to fit a device. Ours.

No loss is divided: a hinge of means over a batch is not the mean of hinges. The teacher's latents may go
through the denoiser in several calls, and so may the student's, whose activations are then recomputed call by
call in the backward pass: the same predictions, the same loss, the same gradients up to rounding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fade.adapters.lora import LoraAdapter
from fade.config import MeshConfig, MethodConfig, ModelConfig, TrainConfig
from fade.erasers.base import ErasureBatch, get_eraser, with_anchors
from fade.errors import ConfigError
from fade.models.base import DiffusionModel
from fade.models.conditioning import Conditioning
from fade.models.footprint import Footprint, LiveBytes, example, fused_attention, weightless
from fade.models.memory import Plan, gb, heap, is_small, plan
from fade.training.settings import TrainingSettings

STATES = 4
"""Tensors of a trained weight's size: itself, its gradient, AdamW's two moments."""


@dataclass(frozen=True)
class Activations:
    """Bytes of one latent in the student."""

    kept: int
    """Between the forward and the backward pass."""
    peak: int
    """At most, the kept ones included."""


@dataclass(frozen=True)
class StepFootprint:
    """What one training step needs beside the base."""

    student: int
    """Latents with gradients."""
    teacher: int
    """Latents of the teacher's largest call; 0: there is no teacher."""
    adapter: int
    """Bytes of what is trained, its gradients and the optimiser's moments."""
    whole: Activations
    """Of a forward pass that keeps all activations."""
    recomputed: Activations
    """Of one that keeps the blocks' inputs alone (gradient checkpointing)."""

    @classmethod
    def of(
        cls, empty: DiffusionModel, mesh: MeshConfig, method: MethodConfig, train: TrainConfig, k: int
    ) -> StepFootprint:
        """Of a method with k neighbours on a model on the meta device, which gets the adapter in place."""
        student, teacher = latents_of(method, train, k)
        lora = LoraAdapter.insert(empty, mesh, seed=0)
        if get_eraser(method.name, method.variant).space is not None:
            for name, parameter in lora.named_parameters().items():
                parameter.requires_grad_("lora_B" in name)
        adapter = sum(one.nbytes for one in lora.named_parameters().values())
        adapter += (STATES - 1) * sum(one.nbytes for one in lora.parameters())
        whole = activations_of(empty, *example(empty))
        empty.denoiser.enable_gradient_checkpointing()
        return cls(student, teacher, adapter, whole, activations_of(empty, *example(empty)))


def activations_of(empty: DiffusionModel, x: Tensor, t: Tensor, cond: Conditioning) -> Activations:
    """Of one latent (1, C, h, w) on the meta device, with the gradients of what requires them now."""
    with fused_attention(), LiveBytes() as bytes_:
        output = empty.predict(x, t, cond)
        kept = bytes_.live
        torch.autograd.backward(output.float().square().mean())
    for parameter in empty.denoiser.parameters():
        parameter.grad = None
    return Activations(kept, bytes_.peak)


class _Counter:
    """A predictor that only counts latents."""

    def __init__(self) -> None:
        self.trained, self.largest, self.searched = 0, 0, 0

    def student(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        self.trained += len(x)
        return torch.zeros_like(x, requires_grad=True)

    def teacher(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        self.largest = max(self.largest, len(x))
        return torch.zeros_like(x)

    def probe(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        self.searched = max(self.searched, len(x))  # its activations are gone before the student's are there
        return torch.zeros_like(x) + 0 * cond.tokens.sum()


class _AnyExtra(dict[str, Conditioning]):
    """What an eraser's ``prepare`` would add: one row a target latent under any name, but ``known``."""

    def __init__(self, rows: Conditioning, known: Mapping[str, Conditioning]) -> None:
        super().__init__(known)
        self._rows = rows

    def __missing__(self, name: str) -> Conditioning:
        return self._rows


def latents_of(method: MethodConfig, train: TrainConfig, k: int) -> tuple[int, int]:
    """Latents of a method's student, all calls of a step together (or its search's largest call, when that is
    more), and of its teacher's largest call; counted by its loss itself on latents of one element. (0, 0) for
    a closed form."""
    eraser = get_eraser(method.name, method.variant)
    if eraser.loss is None:
        return 0, 0
    loss = eraser.loss if method.anchors == "none" else with_anchors(eraser.loss, 1.0)
    n_t, n_a = train.batch_target, train.batch_neighbours if k else 0

    def rows(n: int) -> Conditioning:
        return Conditioning(torch.zeros(n, 1, 1))

    def latents(n: int) -> tuple[Tensor, Tensor]:
        return torch.zeros(n, 1, 1, 1), torch.zeros(n, dtype=torch.long)

    which, shared = torch.arange(n_a) % max(k, 1), eraser.latents
    known = {"anchor": rows(1), "templates": rows(len(shared.templates))} if shared else {}
    x, shown = latents(n_t * shared.prompts(k) if shared else n_t), latents(n_a)
    extra = _AnyExtra(rows(n_t), known)
    batch = ErasureBatch(*x, *shown, rows(1), rows(1), rows(k), which, rows(1), extra)
    counter = _Counter()
    loss(counter, batch, eraser.config_of(method))
    return max(counter.trained, counter.searched), counter.largest


@dataclass(frozen=True)
class StepPlan:
    """How a training step runs on its device."""

    bytes: int = 0
    """At its peak, the base and the process included; 0: not estimated."""
    student: int | None = None
    """Latents a call of the student, whose activations are recomputed in the backward pass; None: all at
    once."""
    teacher: int | None = None
    """Latents a call of the teacher; None: all at once."""
    checkpointing: bool = False
    """Whether the denoiser recomputes each block's activations in the backward pass."""


UNDIVIDED = StepPlan()


def plan_step(
    need: StepFootprint,
    base: Plan,
    config: ModelConfig,
    *,
    processes: int = 1,
    mean_loss: bool = False,
    name: str = "one training step",
) -> StepPlan:
    """The first way that fits, the fastest first. Raises ConfigError, with the numbers, when none does.

    processes: with several, DDP allows one call of the student a step. mean_loss: the loss is a mean over the
    latents, which is divided without a second forward pass."""
    forward = base.footprint.forward if need.teacher else 0
    teacher = max(1, min(need.teacher, base.batches.predict))
    least, slack = 0, heap(base.device)
    divided = mean_loss or (processes == 1 and config.gradient_checkpointing != "never")
    for checkpointing, rows in _ways(need, config, divided=divided):
        each = need.recomputed if checkpointing else need.whole
        kept = need.student * each.kept if rows == need.student else 0
        for n in _halves(teacher):
            activations = max(slack * rows * each.peak, slack * kept + n * forward)
            used = base.resident + int(slack * need.adapter + activations)
            least = min(least or used, used)
            if used <= base.budget:
                split = None if rows == need.student else rows
                return StepPlan(used, split, n if n < need.teacher else None, checkpointing)
    what = (
        f"{name} needs {gb(least)} GB at least ({need.student} latents with gradients of "
        f"{gb(need.whole.peak)} GB each and {gb(need.adapter)} GB for what is trained, beside "
        f"{gb(base.resident)} GB), and {gb(base.budget)} GB of the device may be used."
    )
    raise ConfigError(what, stage="memory", action=_way_out(config, processes))


def _ways(need: StepFootprint, config: ModelConfig, *, divided: bool) -> Iterator[tuple[bool, int]]:
    """(gradient checkpointing, the student's latents a call)."""
    modes = {"never": (False,), "always": (True,), "auto": (False, True)}[config.gradient_checkpointing]
    for checkpointing in modes:
        yield from ((checkpointing, n) for n in (_halves(need.student) if divided else (need.student,)))


def _halves(n: int) -> Iterator[int]:
    while n > 0:
        yield n
        n //= 2


def _way_out(config: ModelConfig, processes: int) -> str:
    ways = ["lower train.batch_target and train.batch_neighbours"]
    ways += ["set model.dtype=bf16"] if config.dtype == "fp32" else []
    ways += ["set model.gradient_checkpointing=auto"] if config.gradient_checkpointing == "never" else []
    ways += ["set train.processes=1, whose batch can be divided"] if processes > 1 else []
    return f"{', or '.join(ways)}, or use a device with more memory."


def step_for(base: DiffusionModel, job: TrainingSettings) -> StepPlan:
    """The plan of a training on a loaded model; of a small one nothing is estimated. Raises ConfigError."""
    if is_small(base):
        return StepPlan(checkpointing=job.model.gradient_checkpointing == "always")
    k = max(len(one.neighbours) for one in job.subjects)
    trained, beside = (job.mesh, job.method, job.train, k), base.batches.beside
    return plan_training(weightless(base), job.model, str(base.device), *trained, beside=beside)[1]


def plan_training(
    empty: DiffusionModel,
    model: ModelConfig,
    device: str,
    mesh: MeshConfig,
    method: MethodConfig,
    train: TrainConfig,
    k: int,
    *,
    beside: int = 0,
) -> tuple[Plan, StepPlan]:
    """The plans of sampling and of a training step on a model on the meta device, which gets an adapter in
    place. Raises ConfigError when one of them does not fit."""
    base = plan(Footprint.of(empty), model, device, beside=beside, name=empty.path)
    if get_eraser(method.name, method.variant).loss is None:
        return base, StepPlan(base.resident)
    step = StepFootprint.of(empty, mesh, method, train, k)
    name = f"one step of {method.name}/{method.variant} on {empty.path}"
    return base, plan_step(step, base, model, processes=train.processes, name=name)
