"""The hash of a model: of what is loaded, and of nothing else.

Tensors by part and name (dtype, shape, bytes), so that shards, file names and unused twins do not count; the
content of configurations without what only names their writer; the tokenizer's files. No torch. Read in
blocks: a model is never in memory for it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fade.errors import BaseModelError
from fade.models.part_files import HARMLESS, PartFiles, paths_of, plain_name, tensor_entries
from fade.models.single_file import split
from fade.utils.hashing import fingerprint, sha256_of
from fade.utils.parsing import MalformedError, parse_json
from fade.utils.reading import MIB, RECORD, read_text

WRITER_KEYS = frozenset(
    {
        *("_diffusers_version", "_name_or_path", "_commit_hash", "transformers_version", "name_or_path"),
        *("torch_dtype", "dtype", "requires_safety_checker", "processor_class"),
    }
)
"""Keys of a configuration that say who wrote it, or what this product sets itself (the dtype)."""
_BLOCK = 4 * MIB


@dataclass(frozen=True)
class FileDigest:
    """A file's own hash and, of a safetensors file, its tensors' (name, dtype, shape, sha256)."""

    sha256: str
    tensors: tuple[tuple[str, str, tuple[int, ...], str], ...] = ()


def content_sha256(parts: Iterable[PartFiles], settings: Mapping[str, Any] | None = None) -> str:
    """The hash of a model of these parts; settings: of the whole, beside the parts. Raises BaseModelError,
    OSError."""
    content: dict[str, Any] = {"settings": described(settings or {})}
    for part in parts:
        tensors = sorted(
            [plain_name(name, part.kind), *rest]
            for file in part.weights
            for name, *rest in digest(file).tensors
            if not name.endswith(HARMLESS)
        )
        configs = {file.name: _config_hash(file) for file in part.configs}
        content[f"part {part.name}"] = {"kind": part.kind, "configs": configs, "tensors": tensors}
    return fingerprint(content)


def described(content: Any) -> Any:
    """A configuration's content without the keys that name its writer."""
    if isinstance(content, Mapping):
        return {key: described(value) for key, value in content.items() if key not in WRITER_KEYS}
    return [described(one) for one in content] if isinstance(content, list) else content


def _config_hash(file: Path) -> str:
    if file.suffix.lower() != ".json":
        return digest(file).sha256
    try:
        return fingerprint(described(parse_json(read_text(file, RECORD), ours=False)))
    except MalformedError:
        return digest(file).sha256


def file_hashes(home: Path, parts: Iterable[PartFiles]) -> dict[str, str]:
    """sha256 of each file that is read, by its name below ``home``; of a base in one file, below the
    directory of its configurations."""
    files, folder = sorted(set(paths_of(parts))), (split(home) or (home, home))[1]
    names = {f: f.relative_to(folder).as_posix() if f.is_relative_to(folder) else f.name for f in files}
    return {name: digest(file).sha256 for file, name in names.items()}


def directory_sha256(path: Path, parts: Iterable[str] = ()) -> str:
    """The hash of earlier versions: of all files below ``path`` (or below its named parts), of their relative
    names and their bytes."""
    roots = [path / part for part in parts] or [path]
    files = sorted(f for root in roots for f in root.rglob("*") if f.is_file())
    return fingerprint({f.relative_to(path).as_posix(): _file_sha256(f) for f in files})


def _file_sha256(file: Path) -> str:
    try:
        return digest(file).sha256
    except BaseModelError:  # a file beside the weights that is no safetensors file, whatever its name
        return sha256_of(file)


def digest(file: Path) -> FileDigest:
    """Of a file as it is now; one that did not change since is read once a process. Raises OSError,
    BaseModelError for weights that are no whole safetensors file."""
    found = file.stat()
    state = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    return _read(file, file.suffix.lower() == ".safetensors", state)


@cache
def _read(file: Path, safetensors: bool, state: tuple[int, ...]) -> FileDigest:
    if not safetensors:
        return FileDigest(sha256_of(file))
    entries = tensor_entries(file, "base")
    whole, tensors = hashlib.sha256(), []
    with file.open("rb") as stream:
        head = stream.read(8)
        whole.update(head + stream.read(int.from_bytes(head, "little")))
        for name, entry in entries.items():
            own = hashlib.sha256()
            left = entry["data_offsets"][1] - entry["data_offsets"][0]
            while left and (block := stream.read(min(left, _BLOCK))):
                own.update(block)
                whole.update(block)
                left -= len(block)
            tensors.append((name, entry["dtype"], tuple(entry["shape"]), own.hexdigest()))
    return FileDigest(whole.hexdigest(), tuple(tensors))
