"""How a long stage says where it is. The command line hangs a bar on it; by default nobody listens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Listener = Callable[[str, int, int, str], None]
"""Called with the stage's name, the steps done, the steps in all, and a word on what is going on."""

_listener: Listener | None = None


def report(stage: str, done: int, total: int, text: str = "") -> None:
    """Tell whoever listens; costs nothing when nobody does."""
    if _listener is not None:
        _listener(stage, done, total, text)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Send every report inside the block to ``listener``."""
    global _listener
    before, _listener = _listener, listener
    try:
        yield
    finally:
        _listener = before
