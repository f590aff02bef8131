"""Safetensors files whose bytes depend on the content alone, and the heads of files that others wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fade.utils.parsing import MalformedError, parse_json
from fade.utils.reading import MIB, check_regular, open_regular

if TYPE_CHECKING:
    from torch import Tensor

HEADER_LIMIT = 16 * MIB
"""Bytes of a head: about 150 a tensor."""


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


class Header(NamedTuple):
    """The head of a file."""

    metadata: dict[str, str]
    tensors: dict[str, Any]
    """Name -> dtype, shape and data_offsets, as far as the file has them."""
    end: int
    """Bytes before the first weight."""


def read_header(path: Path, limit: int | None) -> Header:
    """The head of a file of at most ``limit`` bytes (None: any size); no weight is read. Raises OSError,
    MalformedError."""
    with open_regular(path, limit) as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > HEADER_LIMIT:
            raise MalformedError(f"its head has {length} bytes, at most {HEADER_LIMIT} are read")
        raw = stream.read(length)
    if not raw or len(raw) < length:
        raise MalformedError("it is cut off in its head")
    content = parse_json(raw)
    if not isinstance(content, dict):
        raise MalformedError("its head is no mapping")
    metadata = content.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise MalformedError("its metadata are no texts")
    return Header(metadata, content, 8 + length)


def read_safetensors(path: Path, *, weights: bool = True) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and, unless left out, tensors. Raises OSError and SafetensorError for what is no such file."""
    from safetensors import safe_open

    check_regular(path)
    with safe_open(path, "pt") as file:
        names = file.keys() if weights else []
        return file.metadata() or {}, {name: file.get_tensor(name) for name in names}
