"""A content-addressed store of tensors: the same inputs give the same key, and nothing is made twice.

An entry is one safetensors file whose header holds its key and the sha256 of its tensors; an entry that does
not match is remade, never trusted. Writes go to a temporary name and are renamed, so two processes may fill
the same entry."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from fade.models.safetensors_file import canonical_safetensors, read_safetensors
from fade.utils.files import storage_error, write_whole
from fade.utils.hashing import fingerprint


class Cache:
    """``root/<kind>/<key>.safetensors``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @staticmethod
    def key(**inputs: Any) -> str:
        """The key of an entry: a hash over everything that decides its content."""
        return fingerprint(inputs)[:32]

    def path(self, kind: str, key: str) -> Path:
        return self.root / kind / f"{key}.safetensors"

    def get(self, kind: str, key: str) -> dict[str, Tensor] | None:
        """The tensors stored under ``key``; None when there are none, or when they are not what was
        stored."""
        from safetensors import SafetensorError

        try:
            head, tensors = read_safetensors(self.path(kind, key))
        except (OSError, SafetensorError):
            return None
        return tensors if head == _head(key, tensors) else None

    def put(self, kind: str, key: str, tensors: Mapping[str, Tensor]) -> Path:
        """Store tensors under ``key``. Raises StorageError when the folder cannot be written or the disk is
        full."""
        path = self.path(kind, key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(error, path) from error
        return write_whole(path, canonical_safetensors(tensors, _head(key, tensors)))


def _head(key: str, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].contiguous()
        digest.update(f"{name}{value.dtype}{tuple(value.shape)}".encode())
        digest.update(value.view(-1).numpy().tobytes() if value.numel() else b"")
    return {"key": key, "sha256": digest.hexdigest()}
