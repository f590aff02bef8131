"""Hashes of files and of values."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from fade.utils.reading import open_regular


def sha256_of(path: Path) -> str:
    """Hex sha256 of a regular file, read in blocks. Raises OSError when it cannot be read."""
    with open_regular(path, None) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def md5_of(path: Path) -> str:
    """Hex md5 of a file, as DVC names it; for identity, not for security. Raises OSError as `sha256_of`."""
    with open_regular(path, None) as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def fingerprint(value: Any) -> str:
    """sha256 of canonical JSON: the same content gives the same key on every machine."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def canonical(value: Any) -> str:
    """JSON with sorted keys, no blanks, UTF-8 as it is. Raises ValueError for NaN and infinities."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
