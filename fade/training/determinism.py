"""The same bytes again on a GPU: what torch must be told before its first product there. Ours.

On the CPU nothing has to be told. On a GPU the same training gave other bytes each time until all of this was
set: cuBLAS needs a workspace of fixed size, and attention's backward pass takes its repeatable form only
under the strict setting, not under ``warn_only``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
FIXED = ":4096:8"
"""Eight buffers of 4 MiB: the larger of the two settings under which cuBLAS repeats itself."""


def enable_determinism() -> bool:
    """Make this process's GPU repeat itself; an operation that cannot is an error (RuntimeError) then.
    Whether there is a GPU.

    Call it before the first product on the GPU: cuBLAS looks at its setting once.
    """
    import torch

    if not torch.cuda.is_available():
        return False
    os.environ.setdefault(WORKSPACE, FIXED)
    torch.use_deterministic_algorithms(True)
    # Filling new memory finds bugs of others, at the price of a kernel for every tensor.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    return True


@contextmanager
def deterministic(device: str) -> Iterator[None]:
    """Deterministic kernels inside, the process's own settings afterwards.

    device: ``cuda``: see `enable_determinism`; ``cpu``: an operation without a deterministic form only warns.
    """
    import torch

    mode, memory = torch.get_deterministic_debug_mode(), torch.utils.deterministic
    filled, benchmark = memory.fill_uninitialized_memory, torch.backends.cudnn.benchmark  # type: ignore[attr-defined]
    if device == "cpu" or not enable_determinism():
        torch.use_deterministic_algorithms(True, warn_only=True)
        memory.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(mode)
        memory.fill_uninitialized_memory = filled  # type: ignore[attr-defined]
        torch.backends.cudnn.benchmark = benchmark
