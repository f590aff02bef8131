"""The clock of a run and the age of the process."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest

from fade.utils.clock import Clock, process_age
from tests.support import forked


def test_a_clock_adds_up_and_its_total_counts_from_the_start() -> None:
    clock = Clock()
    for _ in range(2):
        with clock.stage("mine"):
            pass
    seconds = clock.total()
    assert list(seconds) == ["mine", "total"] and 0 <= seconds["mine"] < seconds["total"]


def test_a_process_knows_its_age_to_a_tenth_of_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = tmp_path / "born"
    before = time.time()
    assert forked(lambda: note.write_text(str(time.time() - process_age()))) == 0
    assert before - 0.1 < float(note.read_text()) < before + 0.5
    monkeypatch.setattr(
        psutil.Process, "create_time", lambda self: time.time() - 1e6
    )  # the two disagree: psutil is believed
    assert process_age() == pytest.approx(1e6, abs=1)
