"""Seeds made of names: independent of the global random state and of the order of sampling."""

from __future__ import annotations

import hashlib

MAX_SEED = 2**62
"""A seed of a setting: it counts up from picture to picture, and torch takes no more than 64 bits."""


def consecutive_seeds(first: int, count: int) -> list[int]:
    """Of the pictures of one prompt: a setting's seed and those that follow it."""
    return list(range(first, first + count))


def named_seed(*parts: object) -> int:
    """A 63-bit seed of a tuple of numbers and names."""
    digest = hashlib.sha256("/".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
