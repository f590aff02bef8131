"""Where a loaded network's tensors lie in memory."""

from __future__ import annotations

import torch

ALIGNMENT = 64
"""Bytes: what torch's own CPU allocations are aligned to, and what oneMKL's developer guide ("Reproducibility
Conditions") requires of arrays for the same result from run to run."""


@torch.no_grad()
def place(network: torch.nn.Module, device: torch.device | str) -> None:
    """Put a network on a device. On the CPU every parameter and buffer then has memory of its own, aligned
    to ALIGNMENT.

    Weights as the libraries load them are mapped from the file, at addresses that depend on the length of
    its head and on the tensors before; some CPU kernels take another path there and round otherwise, so that
    equal weights would not give equal predictions. One tensor is copied at a time, and only one that needs
    it; pages of the file stay cached beside the copies, and the system may drop them."""
    network.to(device)
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.device.type == "cpu" and not _is_own(tensor):
            tensor.data = tensor.data.clone(memory_format=torch.contiguous_format)


def _is_own(tensor: torch.Tensor) -> bool:
    """Whether a tensor lies contiguous at an aligned address in memory that torch has allocated: storage that
    is mapped from a file or borrowed from a buffer cannot be resized."""
    own: bool = tensor.untyped_storage().resizable()
    return own and tensor.is_contiguous() and tensor.data_ptr() % ALIGNMENT == 0
