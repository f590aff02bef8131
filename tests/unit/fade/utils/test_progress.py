"""The log of a long stage: a line when it begins, some in between, one when it is done."""

from __future__ import annotations

import io

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
