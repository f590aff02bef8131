"""What made a result: hashes of source files and versions of libraries, for keys that must not outlive
them."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path

from fade.utils.hashing import fingerprint, sha256_of

HOME = Path(__file__).parents[1]


@cache
def source_sha256(*names: str) -> str:
    """Hash of the named source files of this package; a folder stands for its modules."""
    return fingerprint({file.relative_to(HOME).as_posix(): sha256_of(file) for file in source_files(*names)})


def source_files(*names: str) -> list[Path]:
    """The named source files of this package; a folder stands for its modules, those of its subfolders
    too."""
    return [
        file
        for name in names
        for file in (sorted((HOME / name).rglob("*.py")) if (HOME / name).is_dir() else [HOME / name])
    ]


@cache
def method_files(name: str) -> tuple[str, ...]:
    """The source of one method: what all share, its own module, and the modules of the folder that this one
    imports.

    A method whose module is not called by its name gets the whole folder. So a further method leaves the
    others' keys alone."""
    found, todo = {"erasers/base.py"}, [name]
    while todo:
        file = f"erasers/{todo.pop()}.py"
        if not (HOME / file).is_file():
            return ("erasers",)
        if file not in found:
            found.add(file)
            todo += _siblings(HOME / file)
    return tuple(sorted(found))


def _siblings(file: Path) -> list[str]:
    """Modules of fade.erasers that a file of it imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fade.erasers"):
            names |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    stems = {name.split(".")[2] for name in names if name.startswith("fade.erasers.")}
    return sorted(stem for stem in stems if (file.parent / f"{stem}.py").is_file())


def installed() -> dict[str, str]:
    """Every installed distribution and its version, sorted: the lock of this environment."""
    told = (dist.metadata for dist in metadata.distributions())  # each look at it reads the file
    found = {said["Name"]: said["Version"] for said in told if said["Name"]}
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


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
