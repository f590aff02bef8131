"""Progress of long stages: stages call ``report``, the command line sets ``on_progress``. Without a callback
a report does nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from fade.redact import redact
from fade.utils.text import visible

ProgressCallback = Callable[[str, int, int, str], None]
"""Arguments: the stage's name, the steps done, the steps in all (0: unknown), a note on the current step."""

_callback: ProgressCallback | None = None


def report(stage: str, done: int, total: int, text: str = "") -> None:
    """Pass a stage's progress to the callback of ``on_progress``, if one is set."""
    if _callback is not None:
        _callback(stage, done, total, text)


@contextmanager
def on_progress(callback: ProgressCallback) -> Iterator[None]:
    """Send every report inside the block to ``callback``."""
    global _callback
    before, _callback = _callback, callback
    try:
        yield
    finally:
        _callback = before


def log_lines(stream: TextIO, every: float = 10.0) -> ProgressCallback:
    """A callback for logs: one line when a stage begins, one every ``every`` seconds, one when it is done."""
    last: dict[str, float] = {}

    def write_line(stage: str, done: int, total: int, text: str) -> None:
        now = time.monotonic()
        if stage in last and now - last[stage] < every and (not total or done < total):
            return
        last[stage] = now
        count = f"{done}/{total}" if total else "..."
        line = f"{stage:<12} {count:>11}  {visible(redact(text))}"
        print(line.rstrip(), file=stream, flush=True)

    return write_line
