"""How a long stage says where it is. The command line hangs a bar on it; by default nobody listens."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

Listener = Callable[[str, int, int, str], None]
"""Called with the stage's name, the steps done, the steps in all, and a word on what is going on."""

_listener: Listener | None = None


def report(stage: str, done: int, total: int, text: str = "") -> None:
    """Tell whoever listens; costs nothing when nobody does."""
    if _listener is not None:
        _listener(stage, done, total, text)


def lines(stream: TextIO, every: float = 10.0) -> Listener:
    """A listener that writes a line when a stage begins, every so many seconds, and when it is done; for
    logs."""
    last: dict[str, float] = {}

    def listen(stage: str, done: int, total: int, text: str) -> None:
        now = time.monotonic()
        if stage in last and now - last[stage] < every and (not total or done < total):
            return
        last[stage] = now
        count = f"{done}/{total}" if total else "..."
        print(f"{stage:<12} {count:>11}  {text}".rstrip(), file=stream, flush=True)

    return listen


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Send every report inside the block to ``listener``."""
    global _listener
    before, _listener = _listener, listener
    try:
        yield
    finally:
        _listener = before
