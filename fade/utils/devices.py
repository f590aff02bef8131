"""What a device is called."""

from __future__ import annotations

import platform

import torch


def device_name(device: torch.device) -> str:
    """A GPU's name, or of a CPU its architecture, such as ``x86_64``."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
