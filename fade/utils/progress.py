"""Progress of long stages: stages call ``report``, the command line sets ``on_progress``. Without a callback
a report does nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from fade.redact import redact
from fade.utils.text import visible

LONG = 60.0
"""Seconds: how long a stage still takes is printed as soon as it is known."""
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


class Pace:
    """How long a stage still takes, by what its steps took so far."""

    def __init__(self) -> None:
        self._began: dict[str, tuple[float, int]] = {}

    def left(self, stage: str, done: int, total: int, now: float) -> float:
        """Seconds; 0 before a step was measured, at the end, and for an unknown end.

        now: seconds of a clock that never goes back."""
        began, first = self._began.setdefault(stage, (now, done))
        if done < first:  # the stage again
            began, first = self._began[stage] = (now, done)
        if done == first or not total or done >= total:
            return 0.0
        return (now - began) / (done - first) * (total - done)


def duration(seconds: float) -> str:
    """``40 s``, ``12 min``, ``3.2 h``, ``2.1 days``."""
    for unit, name, digits in ((86400, "days", 1), (3600, "h", 1), (60, "min", 0)):
        if seconds >= 1.5 * unit:
            return f"{seconds / unit:.{digits}f} {name}"
    return f"{seconds:.0f} s"


def log_lines(stream: TextIO, every: float = 10.0) -> ProgressCallback:
    """A callback for logs: one line when a stage begins, one when it is known to take LONG, one every
    ``every`` seconds, one when it is done."""
    last: dict[str, float] = {}
    estimated: set[str] = set()
    pace = Pace()

    def write_line(stage: str, done: int, total: int, text: str) -> None:
        now = time.monotonic()
        left = pace.left(stage, done, total, now)
        is_first = left > LONG and stage not in estimated
        if stage in last and not is_first and now - last[stage] < every and (not total or done < total):
            return
        last[stage] = now
        estimated.update([stage] if is_first else [])
        count = f"{done}/{total}" if total else "..."
        time_left = f"{duration(left)} left" if left >= every else ""
        words = ", ".join(filter(None, (visible(redact(text)), time_left)))
        print(f"{stage:<12} {count:>11}  {words}".rstrip(), file=stream, flush=True)

    return write_line
