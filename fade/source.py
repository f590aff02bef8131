"""What made a result: hashes of source files and versions of libraries, for keys that must not outlive them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path

from fade.config import fingerprint
from fade.manifest import sha256_of

HOME = Path(__file__).parent


@cache
def source_sha256(*names: str) -> str:
    """Hash of the named source files of this package; a folder stands for its modules."""
    files = [file for name in names for file in (sorted((HOME / name).glob("*.py")) if (HOME / name).is_dir() else [HOME / name])]
    return fingerprint({file.relative_to(HOME).as_posix(): sha256_of(file) for file in files})


def versions(names: Sequence[str]) -> dict[str, str | None]:
    """Installed version of each distribution; None when it is not installed."""
    return {name: _version(name) for name in names}


@cache
def _version(name: str) -> str | None:
    # Read once: keys of pictures ask for the same few, hundreds of times a run.
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
