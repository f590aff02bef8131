"""A content-addressed store of tensors: the same inputs give the same key, and nothing is made twice.

An entry is one safetensors file whose header holds its key and the sha256 of its tensors; an entry that does
not match is remade, never trusted. Writes go to a temporary name and are renamed, so two processes may fill
the same entry."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from fade.utils.files import storage_error
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
        from safetensors import SafetensorError, safe_open

        path = self.path(kind, key)
        try:
            with safe_open(path, "pt") as opened:
                head = opened.metadata() or {}
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a dict)
        except (FileNotFoundError, SafetensorError, OSError):
            return None
        if head.get("key") != key or head.get("sha256") != _digest(tensors):
            return None
        return tensors

    def put(self, kind: str, key: str, tensors: Mapping[str, Tensor]) -> Path:
        """Store tensors under ``key``. Raises StorageError when the folder cannot be written or the disk is
        full."""
        path = self.path(kind, key)
        part = path.with_name(f".{path.name}.{os.getpid()}")
        whole = {name: value.contiguous() for name, value in tensors.items()}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(_file({"key": key, "sha256": _digest(whole)}, whole))
            os.replace(part, path)
        except Exception as error:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise storage_error(error, path) from error
        return path


def _file(head: Mapping[str, str], tensors: dict[str, Tensor]) -> bytes:
    """A safetensors file whose bytes depend on the content alone: the library writes ``head`` in a random
    order."""
    from safetensors.torch import save

    body: bytes = save(tensors, dict(head))
    length = int.from_bytes(body[:8], "little")
    header = json.loads(body[8 : 8 + length])
    header["__metadata__"] = dict(sorted(head.items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors stay aligned
    return len(text).to_bytes(8, "little") + text + body[8 + length :]


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].contiguous()
        digest.update(f"{name}{value.dtype}{tuple(value.shape)}".encode())
        digest.update(value.view(-1).numpy().tobytes() if value.numel() else b"")
    return digest.hexdigest()
