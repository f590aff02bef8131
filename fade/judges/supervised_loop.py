"""The training loop of the embedded world and of judges: one-cycle AdamW, averaged weights, exact resume,
progress.

Not the eraser's loop (``fade/training/loop.py``), which is of adapters. One process needs nothing else; of
several, which accelerate starts (`fade.jobs.judge`), each computes its share of every batch, and all take the
same step by the mean of their gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fade.config import FitConfig
from fade.errors import DivergedError, TrainingError
from fade.utils.hashing import fingerprint

if TYPE_CHECKING:
    from accelerate import Accelerator

Logs = dict[str, float]
OnStep = Callable[[int, int, Logs], None]
MOMENTS = {"first": "exp_avg", "second": "exp_avg_sq"}
"""Name in a checkpoint -> AdamW's name."""


@dataclass(frozen=True)
class Training:
    """Where a training keeps its checkpoint, its seed, who follows it, and who shares in it.

    identity: what a checkpoint must agree with, beside the seed, the settings and the number of processes,
    before it is continued. processes: how many share each batch. accelerator: of this one among several; None
    where it is alone."""

    folder: Path
    seed: int
    on_step: OnStep = lambda step, steps, logs: None
    identity: Mapping[str, str] = field(default_factory=dict)
    processes: int = 1
    accelerator: Accelerator | None = None

    @property
    def share(self) -> slice:
        """The rows of a batch that this process computes; every process samples the same whole batch."""
        if self.accelerator is None:
            return slice(None)
        return slice(self.accelerator.process_index, None, self.accelerator.num_processes)

    @property
    def writes(self) -> bool:
        """Whether this process writes the checkpoints."""
        return self.accelerator is None or self.accelerator.is_main_process

    def mean(self, logs: Logs) -> Logs:
        """The numbers of a step, averaged over the processes."""
        if self.accelerator is None:
            return logs
        own = torch.tensor([*logs.values()], device=self.accelerator.device)
        return dict(zip(logs, self.accelerator.reduce(own, "mean").tolist(), strict=True))

    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Put the mean over the processes in the place of each gradient: that of the whole batch's mean loss,
        as the shares are equal."""
        if self.accelerator is None:
            return
        gradients = [one.grad for one in parameters if one.grad is not None]
        flat = torch.cat([one.flatten() for one in gradients])
        means = self.accelerator.reduce(flat, "mean").split([one.numel() for one in gradients])
        for gradient, mean in zip(gradients, means, strict=True):
            gradient.copy_(mean.view_as(gradient))

    def require_processes(self) -> None:
        """Raises TrainingError in another number of processes than the training's."""
        present = 1 if self.accelerator is None else self.accelerator.num_processes
        if present != self.processes:
            what = f"{present} process(es) train in {self.folder}, where {self.processes} share each batch."
            raise TrainingError(what, stage=self.folder.name, action="start the training again.")


def fit(
    model: nn.Module,
    loss_at: Callable[[int, torch.Generator], tuple[Tensor, Logs]],
    config: FitConfig,
    training: Training,
) -> dict[str, Tensor]:
    """Train ``model`` in place for ``config.steps``; it ends frozen, with the averaged weights, which are
    returned by parameter name.

    ``loss_at(step, generator)`` samples its batch with the generator, which is seeded by (seed, step): a run
    that is killed and continued from ``folder`` ends with the weights of an uninterrupted one. Of several
    processes each computes the loss of `Training.share`; where nothing is left to do, one alone may call it.
    Buffers are not averaged. Raises DivergedError when the loss is not finite, TrainingError for a damaged
    checkpoint and as `Training.require_processes`."""
    weights = {n: p for n, p in model.named_parameters() if p.requires_grad}
    parameters = list(weights.values())
    average = {n: w.detach().clone() for n, w in weights.items()}
    optimizer = torch.optim.AdamW(
        parameters, lr=config.lr, weight_decay=config.weight_decay, betas=(0.9, 0.98), fused=True
    )
    training.folder.mkdir(parents=True, exist_ok=True)
    facts = {"config": config.model_dump(mode="json"), "seed": training.seed, **training.identity}
    if training.processes > 1:  # a key of one process stays what it was
        facts["processes"] = training.processes
    key = fingerprint(facts)
    checkpoint = _Checkpoint(
        training.folder / "checkpoint.safetensors", key, weights, average, optimizer, model
    )
    first = checkpoint.restore()
    if first < config.steps:
        training.require_processes()
    for step in range(first, config.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.lr * one_cycle(step, config.steps)
        generator = torch.Generator().manual_seed(_mix(training.seed, step))
        loss, logs = loss_at(step, generator)
        logs = training.mean({"loss": loss.item(), **logs})
        if not math.isfinite(logs["loss"]):  # the same on every process, so all stop together
            what = f"the loss is {logs['loss']} at step {step}."
            raise DivergedError(what, stage=training.folder.name, action="lower its learning rate.")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        training.average_gradients(parameters)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        # A short run must not average in its random start: the decay grows with the step, as EMA warm-ups do.
        decay = min(config.ema, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(average.values()), [w.detach() for w in parameters], 1 - decay)
        training.on_step(step + 1, config.steps, logs)
        if training.writes and ((step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps):
            checkpoint.save(step + 1)
    model.load_state_dict(average, strict=False)  # what was not trained, and buffers, stay as they are
    model.eval().requires_grad_(False)
    return average


def one_cycle(step: int, steps: int, warm: float = 0.05) -> float:
    """Share of the peak rate: linear warm-up, then a cosine to zero."""
    at = (step + 1) / steps
    return at / warm if at < warm else 0.5 * (1 + math.cos(math.pi * (at - warm) / (1 - warm)))


def _mix(seed: int, step: int) -> int:
    return (seed * 0x9E3779B1 + step * 0x85EBCA6B + 0x27D4EB2F) & 0x7FFFFFFFFFFF


@dataclass(frozen=True)
class _Checkpoint:
    file: Path
    key: str
    weights: dict[str, nn.Parameter]
    average: dict[str, Tensor]
    optimizer: torch.optim.AdamW
    model: nn.Module

    def save(self, step: int) -> None:
        state = {f"buffer/{n}": b for n, b in self.model.named_buffers()}
        for name, weight in self.weights.items():
            state |= {f"weight/{name}": weight.detach(), f"average/{name}": self.average[name]}
            moments = self.optimizer.state.get(weight, {})  # none of a weight that the loss does not reach
            state |= {f"{k}/{name}": moments[m] for k, m in MOMENTS.items() if m in moments}
        part = self.file.with_suffix(".part")
        copies = {k: v.contiguous().to("cpu", copy=True) for k, v in state.items()}
        save_file(copies, part, metadata={"key": self.key, "step": str(step)})
        part.replace(self.file)

    def restore(self) -> int:
        """Load a checkpoint of the same training; returns its step, 0 where there is none of it. Raises
        TrainingError for a file that is cut off."""
        if not self.file.exists():
            return 0
        try:
            with safe_open(self.file, "pt") as opened:
                head = opened.metadata() or {}
            if head.get("key") != self.key:
                return 0
            state = load_file(self.file)
        except SafetensorError as error:
            action = "delete it, and start the training again: it begins anew."
            what = f"{self.file} cannot be read: {error}."
            raise TrainingError(what, stage=self.file.parent.name, action=action) from error
        step = int(head["step"])
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(state[f"weight/{name}"])
                self.average[name].copy_(state[f"average/{name}"])
                if f"first/{name}" not in state:
                    continue
                # beside the weight: what is fused takes its count from the weight's own device
                moments = {m: state[f"{k}/{name}"].to(weight.device, copy=True) for k, m in MOMENTS.items()}
                count = torch.tensor(float(step), device=weight.device)
                self.optimizer.state[weight] = {"step": count, **moments}
            for name, buffer in self.model.named_buffers():
                buffer.copy_(state[f"buffer/{name}"])
        return step
