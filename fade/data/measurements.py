"""Measurements of pictures, kept by the sha256 of their bytes: no picture is decoded twice.

Of those that are kept a sample is measured again at each use. Where one of it differs, all are."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fade.utils.files import make_folder, read_json, write_whole

SAMPLE = 100
"""Pictures that are measured again although they were measured before."""


class Measurements:
    """sha256 of a picture's bytes -> what was measured of it; in a file, or for this process alone."""

    def __init__(self, file: Path | None = None, made_by: str = "") -> None:
        """made_by: hash of the code and the libraries that measure; what others measured does not count."""
        content: Any = read_json(file) if file else None
        stored = content if isinstance(content, dict) and content.get("made_by") == made_by else {}
        facts, seed = stored.get("pictures"), stored.get("seed")
        is_whole = isinstance(facts, dict) and all(isinstance(one, dict) for one in facts.values())
        self.file, self.made_by = file, made_by
        self.known: Mapping[str, Mapping[str, Any]] = dict(facts or {}) if is_whole else {}
        self.seed = seed + 1 if isinstance(seed, int) else 0
        """Of the sample; another one at each use, kept in the file."""
        self.sample = frozenset(
            random.Random(self.seed).sample(sorted(self.known), min(SAMPLE, len(self.known)))
        )
        self.decoded, self.remeasured, self.differed = 0, 0, ""

    def agrees(self, measured: Mapping[str, Mapping[str, Any]]) -> bool:
        """Whether the sample's pictures among the ``measured`` ones (sha256 -> facts) are as they are
        known."""
        both = self.sample & measured.keys()
        self.remeasured = len(both)
        self.differed = min((one for one in both if measured[one] != self.known[one]), default="")
        return not self.differed

    def keep(self, measured: Mapping[str, Mapping[str, Any]], decoded: int) -> None:
        """Keep the facts of the pictures that are there now, of which so many were decoded, and no others."""
        self.decoded = decoded
        if self.file is not None:
            make_folder(self.file.parent)
            facts = {"made_by": self.made_by, "seed": self.seed, "remeasured": self.remeasured}
            body = json.dumps({**facts, "pictures": measured}, separators=(",", ":"), allow_nan=False)
            write_whole(self.file, body)

    def sentence(self) -> str:
        """What was decoded, and what the sample said."""
        if self.differed:
            return f"all measured again: what was kept of {self.differed[:12]} was not true"
        sample = f", {self.remeasured:,} of them again (seed {self.seed}): no difference"
        return f"{self.decoded:,} pictures decoded{sample if self.remeasured else ''}"
