"""The training loop of the embedded world and of judges: one-cycle AdamW, averaged weights, exact resume,
progress.

Not the eraser's loop (``fade/training/loop.py``): that one is accelerate's; this one needs nothing but one
process."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fade.config import FitConfig
from fade.errors import DivergedError
from fade.utils.hashing import fingerprint

Logs = dict[str, float]
OnStep = Callable[[int, int, Logs], None]
MOMENTS = {"first": "exp_avg", "second": "exp_avg_sq"}
"""Name in a checkpoint -> AdamW's name."""


@dataclass(frozen=True)
class Training:
    """Where a training keeps its checkpoint, its seed, and who follows it.

    identity: what a checkpoint must agree with, beside the seed and the settings, before it is continued."""

    folder: Path
    seed: int
    on_step: OnStep = lambda step, steps, logs: None
    identity: Mapping[str, str] = field(default_factory=dict)


def fit(
    model: nn.Module,
    loss_at: Callable[[int, torch.Generator], tuple[Tensor, Logs]],
    config: FitConfig,
    training: Training,
) -> dict[str, Tensor]:
    """Train ``model`` in place for ``config.steps``; it ends frozen, with the averaged weights, which are
    returned by parameter name.

    ``loss_at(step, generator)`` samples its batch with the generator, which is seeded by (seed, step): a run
    that is killed and continued from ``folder`` ends with the weights of an uninterrupted one. Buffers are
    not averaged. Raises DivergedError when the loss is not finite."""
    weights = {n: p for n, p in model.named_parameters() if p.requires_grad}
    parameters = list(weights.values())
    average = {n: w.detach().clone() for n, w in weights.items()}
    optimizer = torch.optim.AdamW(
        parameters, lr=config.lr, weight_decay=config.weight_decay, betas=(0.9, 0.98), fused=True
    )
    training.folder.mkdir(parents=True, exist_ok=True)
    key = fingerprint({"config": config.model_dump(mode="json"), "seed": training.seed, **training.identity})
    checkpoint = _Checkpoint(
        training.folder / "checkpoint.safetensors", key, weights, average, optimizer, model
    )
    for step in range(checkpoint.restore(), config.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.lr * one_cycle(step, config.steps)
        generator = torch.Generator().manual_seed(_mix(training.seed, step))
        loss, logs = loss_at(step, generator)
        if not math.isfinite(loss.item()):
            what = f"the loss is {loss.item()} at step {step}."
            raise DivergedError(what, stage=training.folder.name, action="lower its learning rate.")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        # A short run must not average in its random start: the decay grows with the step, as EMA warm-ups do.
        decay = min(config.ema, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(average.values()), [w.detach() for w in parameters], 1 - decay)
        training.on_step(step + 1, config.steps, {"loss": loss.item(), **logs})
        if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps:
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
            state |= {f"{k}/{name}": self.optimizer.state[weight][m] for k, m in MOMENTS.items()}
        part = self.file.with_suffix(".part")
        copies = {k: v.contiguous().to("cpu", copy=True) for k, v in state.items()}
        save_file(copies, part, metadata={"key": self.key, "step": str(step)})
        part.replace(self.file)

    def restore(self) -> int:
        """Load a checkpoint of the same training; returns its step, 0 where there is none of it."""
        if not self.file.exists():
            return 0
        with safe_open(self.file, "pt") as opened:
            head = opened.metadata() or {}
        if head.get("key") != self.key:
            return 0
        state = load_file(self.file)
        step = int(head["step"])
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(state[f"weight/{name}"])
                self.average[name].copy_(state[f"average/{name}"])
                # beside the weight: what is fused takes its count from the weight's own device
                moments = {m: state[f"{k}/{name}"].to(weight.device, copy=True) for k, m in MOMENTS.items()}
                count = torch.tensor(float(step), device=weight.device)
                self.optimizer.state[weight] = {"step": count, **moments}
            for name, buffer in self.model.named_buffers():
                buffer.copy_(state[f"buffer/{name}"])
        return step
