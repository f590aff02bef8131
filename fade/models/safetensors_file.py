"""Safetensors files whose bytes depend on the content alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor


def canonical_safetensors(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file as bytes that depend on the content alone (the library writes metadata in a random
    order)."""
    from safetensors.torch import save

    plain: bytes = save({name: state[name].contiguous() for name in sorted(state)})
    length = int.from_bytes(plain[:8], "little")
    header = {"__metadata__": dict(sorted(metadata.items())), **json.loads(plain[8 : 8 + length])}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors stay aligned
    return len(text).to_bytes(8, "little") + text + plain[8 + length :]


def read_safetensors(path: Path, *, weights: bool = True) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and, unless left out, tensors. Raises OSError and SafetensorError for what is no such file."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        names = file.keys() if weights else []
        return file.metadata() or {}, {name: file.get_tensor(name) for name in names}
