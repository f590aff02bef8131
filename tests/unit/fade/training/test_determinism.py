"""What a GPU is told before its first product; without one nothing is touched."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest
import torch

from fade.training.determinism import FIXED, WORKSPACE, deterministic, enable_determinism


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(WORKSPACE, raising=False)
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    filled, benchmark = torch.utils.deterministic.fill_uninitialized_memory, torch.backends.cudnn.benchmark
    yield
    torch.use_deterministic_algorithms(before[0], warn_only=before[1])
    torch.utils.deterministic.fill_uninitialized_memory, torch.backends.cudnn.benchmark = filled, benchmark
    os.environ.pop(WORKSPACE, None)


def test_without_a_gpu_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    before = torch.are_deterministic_algorithms_enabled()
    assert not enable_determinism()
    assert WORKSPACE not in os.environ and torch.are_deterministic_algorithms_enabled() == before


def test_with_one_what_cannot_repeat_itself_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert enable_determinism()
    assert os.environ[WORKSPACE] == FIXED
    assert (
        torch.are_deterministic_algorithms_enabled()
        and not torch.is_deterministic_algorithms_warn_only_enabled()
    )


def test_a_workspace_that_the_user_chose_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv(WORKSPACE, ":16:8")
    enable_determinism()
    assert os.environ[WORKSPACE] == ":16:8"


@pytest.mark.parametrize(
    ("device", "mode"), [("cpu", 1), ("cuda", 2)], ids=("the CPU warns", "a GPU refuses")
)
@pytest.mark.parametrize("before", [0, 2])
def test_the_settings_of_the_process_come_back(
    monkeypatch: pytest.MonkeyPatch, device: str, mode: int, before: int
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    torch.set_deterministic_debug_mode(before)
    torch.backends.cudnn.benchmark = True
    with contextlib.suppress(InterruptedError), deterministic(device):
        assert torch.get_deterministic_debug_mode() == mode
        raise InterruptedError  # however a training ends
    assert (torch.get_deterministic_debug_mode(), torch.backends.cudnn.benchmark) == (before, True)
