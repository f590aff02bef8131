"""accelerate as a training uses it: number of processes, precision, memory."""

from __future__ import annotations

import os
import resource
from typing import TYPE_CHECKING

import torch

from fade.config import TrainConfig
from fade.errors import TrainingError
from fade.models.memory import gpu_without_bf16

if TYPE_CHECKING:
    from accelerate import Accelerator

STAGE = "train"


def make_accelerator(config: TrainConfig, *, cpu: bool = False) -> Accelerator:
    """accelerate as this process was launched; ``cpu`` keeps it off the GPU.

    Raises TrainingError when the number of processes is not the job's.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    if "RANK" not in os.environ:
        # One process, which may have trained before: accelerate's global state refuses another precision or
        # device.
        AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(cpu=cpu, mixed_precision=_precision(config.precision, cpu=cpu))
    if accelerator.num_processes != config.processes:
        what = f"{accelerator.num_processes} process(es) started where train.processes = {config.processes}."
        action = (
            "start it through tasks.stages.train, or by torchrun; `accelerate launch --cpu "
            "--num_processes N` starts only one."
        )
        raise TrainingError(what, stage=STAGE, action=action)
    return accelerator


def _precision(requested: str, *, cpu: bool) -> str:
    gpu = (
        torch.cuda.is_available()
        and not cpu
        and os.environ.get("ACCELERATE_USE_CPU", "false").lower() not in ("1", "true", "yes")
    )
    if requested == "auto":
        return "bf16" if gpu and torch.cuda.is_bf16_supported() else "no"
    if requested == "fp16" and not gpu:
        raise TrainingError(
            "train.precision = fp16 needs a GPU.",
            stage=STAGE,
            action="set train.precision to auto, fp32 or bf16.",
        )
    if requested == "bf16" and gpu and (name := gpu_without_bf16("cuda")):
        what = f"train.precision = bf16, and {name} has no bfloat16."
        raise TrainingError(what, stage=STAGE, action="set train.precision to auto, fp32 or fp16.")
    return "no" if requested == "fp32" else requested


def peak_memory_mb(device: torch.device) -> float:
    """Of this process so far, MiB: on the GPU what torch allocated there, on the CPU all resident memory."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10, 1)
