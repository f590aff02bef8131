"""Measurements of pictures, kept by the sha256 of their bytes: no picture is decoded twice.

Of those that are kept a sample is measured again at each use. Where one of it differs, all are."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fade.utils.files import make_folder, read_json, write_json

SAMPLE = 100
"""Pictures that are measured again although they were measured before."""


class Measurements:
    """sha256 of a picture's bytes -> what was measured of it; in a file, or for this process alone."""

    def __init__(self, file: Path | None = None, made_by: str = "") -> None:
        """made_by: hash of the code and the libraries that measure; what others measured does not count."""
        stored = read_json(file) if file else None
        ours = isinstance(stored, dict) and stored.get("made_by") == made_by
        facts = stored.get("pictures") if ours else None
        seed = stored.get("seed") if ours else None
        is_whole = isinstance(facts, dict) and all(isinstance(one, dict) for one in facts.values())
        self.file, self.made_by = file, made_by
        self.known: Mapping[str, Mapping[str, Any]] = facts if is_whole else {}
        self.seed = seed + 1 if isinstance(seed, int) else 0
        """Of the sample; another one at each use, kept in the file."""
        self.sample = frozenset(
            random.Random(self.seed).sample(sorted(self.known), min(SAMPLE, len(self.known)))
        )
        self.decoded, self.again, self.differed = 0, 0, ""

    def agrees(self, measured: Mapping[str, Mapping[str, Any]]) -> bool:
        """Whether the sample's pictures among the ``measured`` ones (sha256 -> facts) are as they are
        known."""
        again = self.sample & measured.keys()
        self.again = len(again)
        self.differed = min(
            (sha256 for sha256 in again if measured[sha256] != self.known[sha256]), default=""
        )
        return not self.differed

    def keep(self, measured: Mapping[str, Mapping[str, Any]], decoded: int) -> None:
        """Keep the facts of the pictures that are there now, of which so many were decoded, and no others."""
        self.decoded = decoded
        if self.file is not None:
            make_folder(self.file.parent)
            content = {"made_by": self.made_by, "seed": self.seed, "again": self.again, "pictures": measured}
            write_json(self.file, content)

    def sentence(self) -> str:
        """What was decoded, and what the sample said."""
        text = f"{self.decoded:,} pictures decoded"
        if self.differed:
            text += f": what was kept of {self.differed[:12]} was not true, so all were measured again"
        elif self.again:
            text += (
                f", {self.again:,} of them a sample of those known before (seed {self.seed}): no difference"
            )
        return text
