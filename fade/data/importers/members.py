"""A member of a container of pictures, and what is refused by its name alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fade.data.manifest import SHOWN, is_inside
from fade.errors import DataError

STAGE = "import"
IGNORED_PARTS = ("__MACOSX", ".git", ".cache", "@eaDir")
IGNORED_NAMES = (".DS_Store", "Thumbs.db", "desktop.ini")

Selects = Callable[[str, int], bool]
"""(member's name, its bytes) -> whether its content is read."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a container."""

    name: str
    """POSIX path in the container; of a tar in a tar ``inner.tar/path``."""
    size: int
    """Bytes, as the container states them."""
    content: bytes | None
    """None for one that is not selected."""
    offset: int | None = None
    """Where its bytes begin in the file that `fade.data.importers.archive.read_in_place` reads; None where
    the container can be read from its beginning alone."""


class Container(Protocol):
    """A folder, or one archive file."""

    @property
    def path(self) -> Path:
        """Where it lies."""

    def members(self, selects: Selects) -> Iterator[Member]:
        """Every regular file in the container's own order. Raises DataError."""


def is_ignored(name: str) -> bool:
    """Whether a file is what an operating system leaves behind, never a part of a data set."""
    parts = name.split("/")
    return parts[-1].startswith("._") or parts[-1] in IGNORED_NAMES or any(p in IGNORED_PARTS for p in parts)


def check_name(container: Path, name: str) -> str:
    """A member's name. Raises DataError for one that leaves the folder, or that is no text."""
    plain = name.removeprefix("./").rstrip("/")
    if not is_inside(plain) or "\0" in plain or any("\ud800" <= letter <= "\udfff" for letter in plain):
        raise hostile(container, f"{name[:SHOWN]!a} would lie outside of it")
    return plain


def hostile(container: Path, what: str) -> DataError:
    """The error for a container that no honest owner makes."""
    action = "do not use it until its owner has explained it; nothing was written."
    return DataError(f"{container} is refused: {what}.", stage=STAGE, action=action)


def truncated(container: Path, error: object) -> DataError:
    """The error for a container that cannot be read to its end."""
    what = f"{container} is truncated or damaged: {str(error) or type(error).__name__}."
    return DataError(what, stage=STAGE, action="fetch it again and compare its size and checksum.")
