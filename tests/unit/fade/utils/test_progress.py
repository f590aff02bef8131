"""The log of a long stage: a line when it begins, some in between, one when it is done."""

from __future__ import annotations

import io

import pytest

from fade.utils import progress


def test_a_log_gets_the_begin_and_the_end_and_little_between() -> None:
    stream = io.StringIO()
    with progress.on_progress(progress.log_lines(stream, every=3600)):
        progress.report("train", 0, 0)
        for step in range(1, 151):
            progress.report("train", step, 150, f"loss {step}")
        progress.report("evaluate", 0, 0)
    progress.report("train", 1, 1)  # outside the block
    assert [line.split() for line in stream.getvalue().splitlines()] == [
        ["train", "..."],
        ["train", "150/150", "loss", "150"],
        ["evaluate", "..."],
    ]


def test_a_log_gets_every_step_that_takes_long() -> None:
    stream = io.StringIO()
    write_line = progress.log_lines(stream, every=0)
    for step in range(3):
        write_line("mine", step, 10, "")
    assert len(stream.getvalue().splitlines()) == 3


def test_a_long_stage_says_how_long_as_soon_as_a_step_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, now = io.StringIO(), 0.0
    monkeypatch.setattr("fade.utils.progress.time.monotonic", lambda: now)
    write_line = progress.log_lines(stream)
    for step in range(4):
        write_line("mine", 8 * step, 8000, "pictures")
        now += 4.0
    write_line("mine", 8000, 8000, "pictures")
    write_line("mine", 0, 100, "again")  # of another model
    now += 4.0
    write_line("mine", 50, 100, "again")
    lines = [line.split(maxsplit=2)[1:] for line in stream.getvalue().splitlines()]
    assert lines[:3] == [
        ["0/8000", "pictures"],
        ["8/8000", "pictures, 67 min left"],
        ["8000/8000", "pictures"],
    ]


@pytest.mark.parametrize(
    ("seconds", "words"), [(5, "5 s"), (89, "89 s"), (90, "2 min"), (5400, "1.5 h"), (200_000, "2.3 days")]
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert progress.duration(seconds) == words
