"""The training loop: turns a job into an adapter, under accelerate, in the caller's process or one of several
workers.

Determinism contract: the same job on the same machine and thread count gives the same adapter bytes, whether
or not it was killed and resumed in between. Every draw comes from a generator named by (seed, step,
micro-batch, rank), on the CPU."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from fade.adapters.lora import LoraAdapter
from fade.erasers.base import Eraser, Loss, Solve, get_eraser, with_anchors
from fade.errors import BaseModelError, DivergedError, TrainingError
from fade.models.prompts import require_distinct, require_encoded_whole
from fade.training import checkpoint
from fade.training import settings as files
from fade.training.accelerator import make_accelerator, peak_memory_mb
from fade.training.batches import BatchSampler, rate, read_latents
from fade.training.denoiser import Denoiser
from fade.training.determinism import deterministic
from fade.training.memory import StepPlan, step_for
from fade.training.settings import TrainingSettings
from fade.utils.devices import device_name
from fade.utils.files import write_json
from fade.utils.locks import lock_folder
from fade.utils.parent import raise_if_orphaned

if TYPE_CHECKING:
    from accelerate import Accelerator

    from fade.models.base import DiffusionModel

STAGE = "train"
DIVERGED_FACTOR = 1e4
"""A loss this many times above the first (or above 1) will not come back; stop before hours are lost."""
MOST_LOST = 1e-3
"""Share of a closed form's change that an adapter may fail to hold."""
MAX_SKIPPED = 20
"""fp16: steps in a row that the loss scaler may drop before that counts as divergence."""
_PROGRESS_EVERY = 0.2  # seconds
PATIENCE = 10.0  # seconds: an orphan of a killed run needs one step to notice it, and has the lock until then

Row = dict[str, float]
"""A row of the history: step, loss, its terms, lr, grad_norm."""
OnProgress = Callable[[dict[str, Any]], object]
"""Called at most five times a second with ``step``, ``steps``, ``losses`` (a row without its step),
``it_per_s``."""


def train(
    job: TrainingSettings,
    base: DiffusionModel,
    on_step: Callable[[Row], None] = lambda row: None,
    on_progress: OnProgress = lambda progress: None,
) -> Path:
    """Train the job's adapter, resuming from the newest checkpoint in ``job.out``. Returns the adapter's
    path.

    base: the original model, on this process's device; its denoiser and its embeddings are left as they were.
    on_step: called after each step with its row; what it raises ends the training, and a later call resumes
    it. Raises DivergedError (the last good checkpoint is kept), TrainingError, DataError, BaseModelError,
    BusyError."""
    method = get_eraser(job.method.name, job.method.variant)
    alone = [subject.target for subject in job.subjects if not subject.neighbours]
    if (method.requires_neighbours or job.method.anchors == "neighbourhood") and alone:
        raise TrainingError(
            f"method {method.name} needs neighbours.", stage=STAGE, action="set neighborhood.k to 1 or more."
        )
    accelerator = make_accelerator(job.train, cpu=base.device.type == "cpu")
    with ExitStack() as stack:
        if accelerator.is_main_process:
            busy = f"{job.out} is being written"
            stack.enter_context(lock_folder(job.out, busy, STAGE, name=".trainer.lock", patience=PATIENCE))
        stack.enter_context(deterministic(accelerator.device.type))
        latents = read_latents(job)
        if not base.is_base(job.base_sha256):
            what = f"{job.base} is {base.sha256[:12]}, the job was written for {job.base_sha256[:12]}."
            raise BaseModelError(what, stage=STAGE, action="mine again with this base, or restore the other.")
        stack.enter_context(base.no_embeddings())
        for capability in method.requires:
            base.require(capability, f"method {method.name}")
        _check_prompts(job, base)
        plan = step_for(base, job)
        batches = BatchSampler(job, base, latents)
        require_encoded_whole(base, STAGE)
        lora = LoraAdapter.insert(base, job.mesh, seed=job.train.seed)
        if plan.checkpointing:
            base.denoiser.enable_gradient_checkpointing()
            stack.callback(base.denoiser.disable_gradient_checkpointing)
        try:
            return _Run(job, method, accelerator, lora, batches, plan, on_progress).loop(on_step)
        finally:
            accelerator.free_memory()
            accelerator.unwrap_model(base.denoiser, keep_fp32_wrapper=False)
            lora.remove()


def _check_prompts(job: TrainingSettings, base: DiffusionModel) -> None:
    """Raises UsageError for a target that the base cannot tell from what is kept."""
    targets = [subject.target for subject in job.subjects]
    kept = [name for subject in job.subjects for name in subject.neighbours]
    replacement = [job.method.replacement] if job.method.replacement else []
    require_distinct(base, job.prompt, [*kept, *job.heldout, *replacement], targets, STAGE)


class _Run:
    """One training under way."""

    def __init__(
        self,
        job: TrainingSettings,
        method: Eraser,
        accelerator: Accelerator,
        lora: LoraAdapter,
        batches: BatchSampler,
        plan: StepPlan,
        on_progress: OnProgress,
    ) -> None:
        self.job, self.method, self.accelerator = job, method, accelerator
        self.mesh, self.batches = lora, batches
        self.config, self._knobs, self._on_progress = job.train, method.config_of(job.method), on_progress
        if method.space is not None:  # before the optimiser: what is fixed is none of its business
            lora.fix_down(method.space(batches.one_each(), job.mesh.rank, self._knobs))
        adamw = torch.optim.AdamW(lora.parameters(), lr=self.config.lr, weight_decay=self.config.weight_decay)
        model, self.optimizer = accelerator.prepare(lora.model.denoiser, adamw)
        in_noise = self.config.loss_in == "noise"
        self.model, self.predictor = model, Denoiser(model, lora, plan, in_noise=in_noise)
        self.folder = job.out / files.CHECKPOINTS
        self.state = checkpoint.restore(self.folder, job.key(), lora, self.optimizer)
        if self.state.scaler and accelerator.scaler is not None:
            accelerator.scaler.load_state_dict({**accelerator.scaler.state_dict(), **self.state.scaler})
        self._resumed, self._began, self._shown, self._skipped = self.state.step, time.monotonic(), 0.0, 0

    def loop(self, on_step: Callable[[Row], None]) -> Path:
        self._progress({}, force=True)
        if self.method.solve is not None:
            self._solve(self.method.solve)
        while self.state.step < self.config.steps:
            raise_if_orphaned()
            row = self._step(self.state.step)
            self.state.step += 1
            self.state.history.append(row)
            on_step(row)
            self._progress(row)
            if self.state.step % self.config.checkpoint_every == 0 and self.state.step < self.config.steps:
                self._checkpoint()
        return self._finish()

    def _solve(self, solve: Solve) -> None:
        """A closed form takes the place of all steps; there is no history. Raises TrainingError when the
        adapter's rank is too low."""
        changes = solve(self.mesh.base_weights(), self.batches.one_each(), self._knobs)
        lost = self.mesh.write(changes)
        if lost > MOST_LOST:
            what = (
                f"an adapter of rank {self.job.mesh.rank} holds the closed form only up to "
                f"{100 * lost:.1f} %."
            )
            raise TrainingError(
                what,
                stage=STAGE,
                action="raise mesh.rank (and mesh.alpha) to the number of the prompt's tokens.",
            )
        self.state.step = self.config.steps

    @cached_property
    def _loss(self) -> Loss:
        """The method's own, with FADE's anchors when they are asked for."""
        assert self.method.loss is not None  # a closed form takes no steps
        if self.job.method.anchors == "none":
            return self.method.loss
        return with_anchors(self.method.loss, self.job.method.adjacency_weight)

    def _step(self, step: int) -> dict[str, float]:
        """One optimiser step; its row of the history, losses averaged over micro-batches and processes."""
        lr = rate(step, self.config, self.method.schedule)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        n, total = self.config.gradient_accumulation, None
        names: list[str] = []
        for micro in range(n):
            rank, world = self.accelerator.process_index, self.accelerator.num_processes
            batch = self.batches.batch(step, micro, rank, world, self.mesh.off)
            with nullcontext() if micro == n - 1 else self.accelerator.no_sync(self.model):
                loss, terms = self._loss(self.predictor, batch, self._knobs)
                self.accelerator.backward(loss / n)
            names = list(terms)
            values = torch.stack([loss.detach(), *terms.values()]) / n
            total = values if total is None else total + values
        norm = float(self.accelerator.clip_grad_norm_(self.mesh.parameters(), self.config.max_grad_norm))
        means: list[float] = self.accelerator.reduce(total, "mean").tolist()
        row = {
            "step": float(step + 1),
            "loss": means[0],
            **dict(zip(names, means[1:], strict=True)),
            "lr": lr,
            "grad_norm": norm,
        }
        self._check_finite(row)  # before the step: the weights in memory stay good
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return row

    def _check_finite(self, row: dict[str, float]) -> None:
        """Raises DivergedError. The row is the same on every process, so all stop together."""
        scaled = self.accelerator.scaler is not None
        overflow = not math.isfinite(row["grad_norm"])
        self._skipped = self._skipped + 1 if overflow else 0
        first = self.state.history[0]["loss"] if self.state.history else row["loss"]
        bad = [
            name
            for name, value in row.items()
            if not math.isfinite(value) and not (scaled and name == "grad_norm")
        ]
        if bad:
            reason = f"{bad[0]} is {row[bad[0]]}"
        elif self._skipped > MAX_SKIPPED:
            reason = f"fp16 gradients overflowed {self._skipped} times in a row"
        elif row["loss"] > DIVERGED_FACTOR * max(first, 1.0):
            reason = f"the loss rose from {first:.3g} to {row['loss']:.3g}"
        else:
            return
        steps = checkpoint.steps_in(self.folder)
        left = (
            f"the checkpoint of step {steps[-1]} is kept" if steps else "no checkpoint had been written yet"
        )
        what = f"training diverged at step {int(row['step'])}: {reason}; {left}."
        raise DivergedError(
            what, stage=STAGE, action="lower train.lr or the method's weights, or use train.precision=fp32."
        )

    def _checkpoint(self) -> None:
        if self.accelerator.is_main_process:
            scaler = self.accelerator.scaler
            self.state.scaler = {} if scaler is None else scaler.state_dict()
            checkpoint.save(self.folder, self.job.key(), self.mesh, self.optimizer, self.state)
        self.accelerator.wait_for_everyone()

    def _finish(self) -> Path:
        path = self.job.out / files.ADAPTER
        if self.accelerator.is_main_process:
            digest = self.mesh.save(path, self.job.provenance)
            write_json(self.job.out / files.HISTORY, self.state.history)
            self._progress(self.state.history[-1] if self.state.history else {}, force=True)
            write_json(
                self.job.out / files.DONE,
                {"key": self.job.key(), "adapter_sha256": digest, "run": self._facts()},
            )
        self.accelerator.wait_for_everyone()
        return path

    def _facts(self) -> dict[str, Any]:
        """How it ran: what may differ between two machines that got the same job."""
        config, accelerator = self.config, self.accelerator
        per_step = accelerator.num_processes * config.gradient_accumulation
        return {
            "processes": accelerator.num_processes,
            "gradient_accumulation": config.gradient_accumulation,
            "effective_batch": {
                "target": per_step * config.batch_target,
                "neighbours": per_step * config.batch_neighbours,
            },
            "precision": accelerator.mixed_precision,
            "device": device_name(accelerator.device),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "peak_memory_mb": peak_memory_mb(accelerator.device),
            "resumed_at": self._resumed,
            "seconds": round(time.monotonic() - self._began, 3),
        }

    def _progress(self, row: dict[str, float], *, force: bool = False) -> None:
        now = time.monotonic()
        if not self.accelerator.is_main_process or (now - self._shown < _PROGRESS_EVERY and not force):
            return
        self._shown = now
        speed = (self.state.step - self._resumed) / max(now - self._began, 1e-9)
        shown = {name: value for name, value in row.items() if name != "step"}
        self._on_progress(
            {"step": self.state.step, "steps": self.config.steps, "losses": shown, "it_per_s": speed}
        )
