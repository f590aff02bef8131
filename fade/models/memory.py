"""What of a base's work fits a device: its batches, all from one budget, and its precision. Ours."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from fade.config import ModelConfig
from fade.errors import ConfigError
from fade.models.base import DiffusionModel
from fade.models.batches import Batches, text_encoders
from fade.models.footprint import Footprint, weight_bytes, weightless
from fade.models.loading import load_model, pick_device

GB = 1e9
PROCESS = int(0.75 * GB)
"""Bytes of a process without a model: its libraries, or a GPU's context."""
HEADROOM = 0.1
"""Share of a device that no plan uses: what an allocator loses between tensors of different sizes."""
HEAP = 1.15
"""What work on the CPU takes, of its tensors' bytes: the kernels' own buffers. See bench/memory.py."""
MMAP_THRESHOLD, _M_MMAP_THRESHOLD = 1 << 20, -3
"""Bytes from which the C library takes memory from the system and gives it back; its name in malloc.h."""
SMALL = int(1 * GB)
"""Bytes of weights below which nothing is estimated: such a base's batches are a fraction of any device."""
TEXT_SHARE = 0.05
"""A GPU's text encoders that are a larger share of it than this wait on the CPU."""
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@cache
def device_bytes(device: str) -> int:
    """Memory of a device: of a GPU all that it has, of the CPU what this machine, or its container, has."""
    if device.startswith("cuda"):
        return int(torch.cuda.get_device_properties(torch.device(device)).total_memory)
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):
        total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    return total


@dataclass(frozen=True)
class Plan:
    """What of a base's work fits a device, and how."""

    budget: int
    """Bytes that the plan may use."""
    resident: int
    """Bytes that are in use between two calls: the process and the weights."""
    text_offloaded: bool
    """Whether the text encoders wait on the CPU while they encode nothing."""
    footprint: Footprint
    """With the heap's share."""
    batches: Batches
    device: str

    @property
    def room(self) -> int:
        """Bytes for a call's activations."""
        return self.budget - self.resident

    def sampling(self, pictures: int) -> int:
        """Bytes at the peak of sampling so many pictures at once with guidance, and of decoding them."""
        need, decoded = self.footprint, min(pictures, self.batches.decode)
        return self.resident + max(pictures * need.sample, decoded * need.decode)


def heap(device: str) -> float:
    """What the device takes, of the bytes of a call's tensors. A GPU's allocator is in HEADROOM."""
    return 1.0 if device.startswith("cuda") else HEAP


def is_small(model: DiffusionModel) -> bool:
    """Whether the model's weights are below `SMALL`."""
    return weight_bytes(*model.parts.values()) < SMALL


def budget_of(config: ModelConfig, device: str) -> int:
    """Bytes of the device that a run may plan with."""
    return int((config.memory_gb * GB or device_bytes(device)) * (1 - HEADROOM))


def require_budget(config: ModelConfig, device: str) -> None:
    """Raises ConfigError for a model.memory_gb that the device does not have: a plan would not fit it."""
    if config.memory_gb * GB > (size := device_bytes(device)):
        what = f"model.memory_gb = {config.memory_gb:g}, and the device has {gb(size)} GB."
        action = "set model.memory_gb=0 (all that the device has), or less than it has."
        raise ConfigError(what, stage="memory", action=action)


def plan(
    need: Footprint, config: ModelConfig, device: str, *, beside: int = 0, name: str = "the base"
) -> Plan:
    """The largest batches, halved from the usual ones until each fits.

    beside: bytes of other models on the device. Raises ConfigError, with the numbers, when not even one
    latent or picture at once fits."""
    budget, usual, need = budget_of(config, device), Batches(), need.scaled(heap(device))
    offload = device.startswith("cuda") and need.text > TEXT_SHARE * budget
    resident = PROCESS + need.weights + beside + (0 if offload else need.text)
    room = budget - resident
    least = max(need.sample, need.decode, need.encode, need.prompt + (need.text if offload else 0))
    if room < least:
        what = (
            f"{name} needs about {gb(resident + least)} GB ({gb(resident)} of them between two calls) for "
            f"one picture at once, and {gb(budget)} GB of the device may be used."
        )
        raise ConfigError(what, stage="memory", action=_less_weight(config))
    batches = Batches(
        sample=halved(usual.sample, need.sample, room),
        predict=halved(usual.predict, need.forward, room),
        decode=halved(usual.decode, need.decode, room),
        encode=halved(usual.encode, need.encode, room),
        prompts=halved(usual.prompts, need.prompt, room - (need.text if offload else 0)),
        beside=beside,
    )
    return Plan(budget, resident, offload, need, batches, device)


def _less_weight(config: ModelConfig) -> str:
    smaller = "set model.dtype=bf16, or " if config.dtype == "fp32" else ""
    return f"{smaller}use a device with more memory (model.memory_gb says how much of it may be used)."


def halved(n: int, each: int, room: int) -> int:
    """The first of n, n/2, n/4, ... whose rows of ``each`` bytes fit the room; 1 at least. Halves, so that
    devices of about the same size get the same batches."""
    if n * each <= room:
        return n
    return max(1, n >> max(0, math.ceil(math.log2(n * each / max(room, 1)))))


def gb(size: float) -> str:
    """Bytes as GB with one digit after the point."""
    return f"{size / GB:.1f}"


def gpu_without_bf16(device: str) -> str:
    """The name of the device if it is a GPU that computes in bfloat16 by emulation at best; else empty."""
    if not device.startswith("cuda") or torch.cuda.is_bf16_supported(including_emulation=False):
        return ""
    return torch.cuda.get_device_name(device)


def require_dtype(
    config: ModelConfig, device: str, lacking: Callable[[str], str] = gpu_without_bf16
) -> torch.dtype:
    """The torch dtype of ``model.dtype``. Raises ConfigError when the device lacks it."""
    if config.dtype == "bf16" and (gpu := lacking(device)):
        what = f"model.dtype = bf16, and {gpu} has no bfloat16."
        raise ConfigError(what, stage="memory", action="set model.dtype=fp32, or use another GPU.")
    return DTYPES[config.dtype]


def load_fitting(path: str, config: ModelConfig, *, device: str = "auto", beside: int = 0) -> DiffusionModel:
    """`fade.models.loading.load_model` in the configured dtype, its batches lowered to what fits the device.

    beside: see `plan`. Raises what both raise."""
    device = pick_device(device)
    model = load_model(path, device=device, dtype=require_dtype(config, device))
    if not is_small(model):
        require_budget(config, device)
        give_back_freed_memory()
        fit(model, plan(Footprint.of(weightless(model)), config, device, beside=beside, name=path))
    return model


def give_back_freed_memory() -> None:
    """Have the C library return large tensors' memory when they are freed (glibc; elsewhere nothing changes).

    By default it keeps what lies between living ones: a training step of Stable Diffusion 3.5 on the CPU took
    three and a half times the bytes of its tensors."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD)


def fit(model: DiffusionModel, fitting: Plan) -> None:
    """Have a loaded model work as the plan says."""
    model.batches = fitting.batches
    if fitting.text_offloaded:
        model.text_device = torch.device("cpu")
        for part in text_encoders(model.parts):
            part.to(model.text_device)
