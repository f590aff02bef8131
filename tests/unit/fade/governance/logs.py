"""Logs of decisions for tests."""

from __future__ import annotations

from dataclasses import replace

from fade.governance.promotion import PROMOTE, Decision


def chain(length: int, start: int = 1) -> list[Decision]:
    """Promotions of the versions 1, 2, ..., each behind the one before."""
    entries: list[Decision] = []
    for number in range(start, start + length):
        entry = Decision(number=number, by="ann", at="", version=str(number), action=PROMOTE)
        if entries:
            entry = replace(entry, previous=entries[-1].number, previous_sha256=entries[-1].sha256())
        entries.append(entry)
    return entries
