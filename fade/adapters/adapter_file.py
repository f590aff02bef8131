"""The adapter file: one safetensors file in diffusers' LoRA layout, provenance in its header."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from fade.errors import AdapterError
from fade.models.safetensors_file import read_safetensors

PROVENANCE = "fade."


def read_provenance(path: Path) -> dict[str, str]:
    """The provenance in an adapter's header, keys without their ``fade.``. Raises AdapterError when there is
    none."""
    return read_adapter(path, weights=False)[0]


def read_adapter(path: Path, *, weights: bool = True) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Provenance and weights of an adapter file. Raises AdapterError for anything but a safetensors file of
    FADE's."""
    from safetensors import SafetensorError

    if path.suffix != ".safetensors":
        what = f"{path} is refused: adapters are .safetensors files."
        raise AdapterError(what, stage="mesh", action="convert it.")
    try:
        metadata, state = read_safetensors(path, weights=weights)
    except (OSError, SafetensorError) as error:
        action = "train it again, or fetch it anew."
        raise AdapterError(f"{path} cannot be read: {error}.", stage="mesh", action=action) from error
    header = {key.removeprefix(PROVENANCE): v for key, v in metadata.items() if key.startswith(PROVENANCE)}
    if not header:
        what = f"{path} carries no provenance: it was not made here."
        raise AdapterError(
            what, stage="mesh", action="load foreign adapters with diffusers' load_lora_weights."
        )
    return header, state
