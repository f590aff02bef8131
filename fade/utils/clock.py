"""Wall-clock seconds of the stages of a run, and of everything since the process began."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fade.utils import progress


class Clock:
    """Seconds by stage, in the order of the stages."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage, and report its begin."""
        progress.report(name, 0, 0)
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + round(time.perf_counter() - start, 3)

    def total(self) -> dict[str, float]:
        """The stages and "total", which counts from the start of the process: imports and server included."""
        return {**self.seconds, "total": round(process_age(), 3)}


def process_age() -> float:
    """Seconds since this process began.

    psutil adds up to one, as it knows the time of the boot in whole seconds; the kernel's own count is taken
    where it agrees."""
    import psutil

    age = time.time() - psutil.Process().create_time()
    with suppress(OSError, AttributeError, ValueError, IndexError):  # not Linux, or not quite
        ticks = int(Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()[19])
        exact = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
        if 0 <= age - exact <= 1.1:
            return exact
    return age
