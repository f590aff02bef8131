"""What a stretch of work costs: seconds, calls of the UNet and the pictures in them, peak memory."""

from __future__ import annotations

import threading
import time
from typing import Any

import psutil
import torch

EVERY = 0.05
"""Seconds between two readings of the memory."""


class FlopCounter:
    """Measures while it is entered.

    calls: how often the UNet ran; samples: the latents (or noisy pictures) in these calls, student's and
    teacher's alike; seconds. peak_memory_mb: on a GPU what torch had allocated there at most; else the
    process's highest resident memory, MiB, libraries and what earlier work left with the allocator included:
    it bounds a method's need from above."""

    def __init__(self, unet: torch.nn.Module, device: torch.device) -> None:
        self.calls = self.samples = 0
        self.seconds = self.peak_memory_mb = 0.0
        self._unet, self._device, self._over = unet, device, threading.Event()
        self._watch = threading.Thread(target=self._read_memory, name="memory", daemon=True)

    def __enter__(self) -> FlopCounter:
        self._hook = self._unet.register_forward_pre_hook(self._count, with_kwargs=True)
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        self._watch.start()
        self._began = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._began
        self._over.set()
        self._watch.join()
        self._hook.remove()
        if self._device.type == "cuda":
            self.peak_memory_mb = torch.cuda.max_memory_allocated(self._device) / 2**20

    def _count(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.calls += 1
        self.samples += len(args[0] if args else kwargs["sample"])

    def _read_memory(self) -> None:
        process = psutil.Process()
        while True:
            self.peak_memory_mb = max(self.peak_memory_mb, process.memory_info().rss / 2**20)
            if self._over.wait(EVERY):
                return

    def facts(self) -> dict[str, float]:
        """As JSON, rounded."""
        calls = {"unet_calls": self.calls, "unet_samples": self.samples}
        return {"seconds": round(self.seconds, 3), **calls, "peak_memory_mb": round(self.peak_memory_mb, 1)}
