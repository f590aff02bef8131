"""The meter counts what was called and sees what was held."""

from __future__ import annotations

import time

import pytest
import torch

from fade.benchmark.cost import FlopCounter
from tests.support import tiny_unet


def test_calls_and_samples_are_counted_while_it_is_entered_and_not_after() -> None:
    unet, latents = tiny_unet(), torch.zeros(3, 4, 8, 8)
    words, t = torch.zeros(3, 2, 32), torch.zeros(3, dtype=torch.long)
    with torch.no_grad(), FlopCounter(unet, torch.device("cpu")) as meter:
        unet(latents, t, encoder_hidden_states=words)
        unet(sample=latents[:2], timestep=t[:2], encoder_hidden_states=words[:2])
    with torch.no_grad():
        unet(latents, t, encoder_hidden_states=words)
    assert (meter.calls, meter.samples) == (2, 5) and not unet._forward_pre_hooks and meter.seconds > 0
    assert set(meter.facts()) == {"seconds", "unet_calls", "unet_samples", "peak_memory_mb"}


def test_memory_that_was_held_for_a_while_is_seen() -> None:
    with FlopCounter(torch.nn.Identity(), torch.device("cpu")) as plain:
        time.sleep(0.06)
    with FlopCounter(torch.nn.Identity(), torch.device("cpu")) as held:
        block = torch.ones(64 << 18)  # 64 MiB
        time.sleep(0.2)
    del block
    assert held.peak_memory_mb - plain.peak_memory_mb == pytest.approx(64, abs=24)


def test_a_failure_inside_is_not_swallowed_and_leaves_no_hook() -> None:
    unet = torch.nn.Identity()
    with pytest.raises(ValueError, match="inside"), FlopCounter(unet, torch.device("cpu")):
        raise ValueError("inside")
    assert not unet._forward_pre_hooks
