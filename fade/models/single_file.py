"""A base as one safetensors file in the original key layout, beside a local directory of configurations.

Its name is one string, ``FILE.safetensors@DIRECTORY``, as a hub id with its revision is one. The weights are
the file's alone; configurations, tokenizers and scheduler are the directory's."""

from __future__ import annotations

import re
from pathlib import Path

_NAME = re.compile(r"(?P<file>.+\.safetensors)@(?P<config>.+)", re.DOTALL)


def split(where: Path | str) -> tuple[Path, Path] | None:
    """(the file, the directory of its configurations); None for a base of another layout."""
    found = _NAME.fullmatch(str(where))
    return (Path(found["file"]), Path(found["config"])) if found else None


def join(file: str, config: str) -> str:
    """The name of a base of this layout."""
    return f"{file}@{config}"
