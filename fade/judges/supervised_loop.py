"""The small training loop of the embedded world: one-cycle AdamW, averaged weights, exact resume, progress.

Not the eraser's loop (``fade/training/loop.py``): that one is accelerate's; this one needs nothing but one
process."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
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


def fit(
    model: nn.Module,
    loss_at: Callable[[int, torch.Generator], tuple[Tensor, Logs]],
    config: FitConfig,
    folder: Path,
    *,
    seed: int,
    identity: dict[str, str] | None = None,
    on_step: OnStep = lambda step, steps, logs: None,
) -> dict[str, Tensor]:
    """Train ``model`` in place for ``config.steps`` and return the averaged weights by parameter name.

    ``loss_at(step, generator)`` draws its batch from the generator, which is seeded by (seed, step): a run
    that is killed and continued from ``folder`` ends with the weights of an uninterrupted one. Buffers are
    not averaged. Raises DivergedError when the loss is not finite."""
    names = [n for n, p in model.named_parameters() if p.requires_grad]
    tensors = dict(model.named_parameters())
    weights = [tensors[n] for n in names]
    key = fingerprint({"config": config.model_dump(mode="json"), "seed": seed, **(identity or {})})
    average = [w.detach().clone() for w in weights]
    optimizer = torch.optim.AdamW(
        weights, lr=config.lr, weight_decay=config.weight_decay, betas=(0.9, 0.98), foreach=True
    )
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "checkpoint.safetensors"
    first = _restore(file, key, names, weights, average, optimizer, model)
    for step in range(first, config.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.lr * one_cycle(step, config.steps)
        generator = torch.Generator().manual_seed(_mix(seed, step))
        loss, logs = loss_at(step, generator)
        if not math.isfinite(loss.item()):
            what = f"the loss is {loss.item()} at step {step}."
            raise DivergedError(what, stage=folder.name, action="lower its learning rate.")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        # A short run must not average in its random start: the decay grows with the step, as EMA warm-ups do.
        decay = min(config.ema, (1 + step) / (10 + step))
        torch._foreach_lerp_(average, [w.detach() for w in weights], 1 - decay)
        on_step(step + 1, config.steps, {"loss": loss.item(), **logs})
        if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps:
            _save(file, key, step + 1, names, weights, average, optimizer, model)
    return dict(zip(names, average, strict=True))


def one_cycle(step: int, steps: int, warm: float = 0.05) -> float:
    """Share of the peak rate: linear warm-up, then a cosine to zero."""
    at = (step + 1) / steps
    return at / warm if at < warm else 0.5 * (1 + math.cos(math.pi * (at - warm) / (1 - warm)))


def _mix(seed: int, step: int) -> int:
    return (seed * 0x9E3779B1 + step * 0x85EBCA6B + 0x27D4EB2F) & 0x7FFFFFFFFFFF


def _save(
    file: Path,
    key: str,
    step: int,
    names: list[str],
    weights: Sequence[Tensor],
    average: list[Tensor],
    optimizer: torch.optim.AdamW,
    model: nn.Module,
) -> None:
    state: dict[str, Tensor] = {}
    for name, weight, mean in zip(names, weights, average, strict=True):
        moments = optimizer.state[weight]
        state[f"weight/{name}"], state[f"average/{name}"] = weight.detach(), mean
        state[f"first/{name}"], state[f"second/{name}"] = moments["exp_avg"], moments["exp_avg_sq"]
    state |= {f"buffer/{n}": b.contiguous() for n, b in model.named_buffers()}
    part = file.with_suffix(".part")
    save_file(
        {k: v.contiguous().clone() for k, v in state.items()}, part, metadata={"key": key, "step": str(step)}
    )
    part.replace(file)


def _restore(
    file: Path,
    key: str,
    names: list[str],
    weights: Sequence[Tensor],
    average: list[Tensor],
    optimizer: torch.optim.AdamW,
    model: nn.Module,
) -> int:
    """Load a checkpoint of the same training; a foreign or unreadable one is ignored (its writer replaces
    files whole)."""
    if not file.exists():
        return 0
    with safe_open(file, "pt") as opened:
        head = opened.metadata() or {}
    if head.get("key") != key:
        return 0
    state = load_file(file)
    step = int(head["step"])
    with torch.no_grad():
        for name, weight, mean in zip(names, weights, average, strict=True):
            weight.copy_(state[f"weight/{name}"])
            mean.copy_(state[f"average/{name}"])
            optimizer.state[weight] = {
                "step": torch.tensor(float(step)),
                "exp_avg": state[f"first/{name}"].clone(),
                "exp_avg_sq": state[f"second/{name}"].clone(),
            }
        for name, buffer in model.named_buffers():
            buffer.copy_(state[f"buffer/{name}"])
    return step
