"""Sentences beside a command's result, on the error stream, each once a process."""

from __future__ import annotations

import sys

_written: set[str] = set()


def note(text: str) -> None:
    """Write a sentence to the error stream, unless this process has written it before."""
    if text not in _written:
        _written.add(text)
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
