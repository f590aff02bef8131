"""A device's name, as the records and sentences have it."""

from __future__ import annotations

import platform

import pytest
import torch

from fade.utils.devices import device_name


def test_a_cpu_has_the_name_of_its_architecture_and_a_gpu_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"card {device.index}")
    assert device_name(torch.device("cpu")) == platform.machine()
    assert device_name(torch.device("cuda", 1)) == "card 1"
