"""The adapter file: one safetensors file in diffusers' LoRA layout, provenance in its header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from fade.errors import AdapterError

_STAGE = "mesh"


PROVENANCE = "fade."


def read_provenance(path: Path) -> dict[str, str]:
    """The provenance in an adapter's header, keys without their ``fade.``. Raises AdapterError when there is
    none."""
    return read_adapter(path, weights=False)[0]


def read_adapter(path: Path, *, weights: bool = True) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Provenance and weights of an adapter file. Raises AdapterError for anything but a safetensors file of
    FADE's."""
    from safetensors import SafetensorError, safe_open

    if path.suffix != ".safetensors":
        raise AdapterError(
            f"{path} is refused: adapters are .safetensors files.", stage=_STAGE, action="convert it."
        )
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()} if weights else {}  # noqa: SIM118 (no mapping)
    except (OSError, SafetensorError) as error:
        raise AdapterError(
            f"{path} cannot be read: {error}.", stage=_STAGE, action="train it again, or fetch it anew."
        ) from error
    header = {
        key.removeprefix(PROVENANCE): value for key, value in metadata.items() if key.startswith(PROVENANCE)
    }
    if not header:
        action = "load foreign adapters with diffusers' load_lora_weights."
        raise AdapterError(
            f"{path} carries no provenance: it was not made here.", stage=_STAGE, action=action
        )
    return header, state


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
