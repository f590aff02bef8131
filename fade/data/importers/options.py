"""What the user chooses about an import."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fade.data.importers.members import STAGE
from fade.errors import UsageError
from fade.utils.hashing import sha256_of


@dataclass(frozen=True)
class Split:
    """A split that is drawn for a copy without one: a share of each class trains."""

    seed: int
    share: float

    @classmethod
    def parse(cls, text: str) -> Split:
        """Of ``seed:0,0.8``. Raises UsageError."""
        head, _, rest = text.partition(":")
        seed, _, share = rest.partition(",")
        try:
            found = cls(int(seed), float(share))
        except ValueError:
            found = cls(0, 0.0)
        if head != "seed" or not seed.isdigit() or not 0 < found.share < 1:
            action = "write --split seed:0,0.8 (a seed, and the share that trains)."
            raise UsageError(f"{text!r} is no split.", stage=STAGE, action=action)
        return found


@dataclass(frozen=True)
class ImportOptions:
    """Everything that decides the bytes of an import, beside the copy itself."""

    split: Split | None = None
    """None: the set's own."""
    per_class: int | None = None
    """Pictures of a class and split, sampled by the hash of their names; None: all of them."""
    side: int | None = None
    """Pixels that a longer shorter side is shrunk to."""
    naming: str = "as-prompted"
    names: Path | None = None
    """A table of the user's own: label, concept and, optionally, spoken, synonyms, family."""
    licence: str = ""
    """Of a folder of one's own."""
    skip: Sequence[str] = field(default=())
    """Classes that are left out, by label or concept."""
    partial: bool = False
    """Whether pictures may be missing that the set's own lists name."""

    def record(self) -> Mapping[str, Any]:
        """As import.json holds them: a table of names by its hash."""
        values = asdict(self) | {"skip": sorted(self.skip)}
        if self.names:
            values["names"] = sha256_of(self.names)
        return values
