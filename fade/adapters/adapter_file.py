"""The adapter file: one safetensors file in diffusers' LoRA layout, provenance in its header."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from fade.adapters.adapter_header import AdapterHeader, check_tensors
from fade.errors import AdapterError
from fade.models.safetensors_file import read_header, read_safetensors
from fade.utils.parsing import MalformedError
from fade.utils.reading import ADAPTER

PROVENANCE = "fade."


def read_provenance(path: Path) -> dict[str, str]:
    """The provenance in an adapter's header, keys without their ``fade.``. Raises AdapterError when there is
    none."""
    return read_adapter(path, weights=False)[0]


def read_adapter(path: Path, *, weights: bool = True) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Provenance and weights of an adapter file. Raises AdapterError for anything but a safetensors file of
    FADE's: its header is complete, and agrees with its tensors."""
    from safetensors import SafetensorError

    if path.suffix != ".safetensors":
        what = f"{path} is refused: adapters are .safetensors files."
        raise AdapterError(what, stage="mesh", action="convert it.")
    try:
        metadata, tensors, _ = read_header(path, ADAPTER)
        _, state = read_safetensors(path, weights=False)  # the offsets fit the file
    except (OSError, MalformedError, SafetensorError) as error:
        action = "train it again, or fetch it anew."
        raise AdapterError(f"{path} cannot be read: {error}.", stage="mesh", action=action) from error
    header = {key.removeprefix(PROVENANCE): v for key, v in metadata.items() if key.startswith(PROVENANCE)}
    if not header:
        what = f"{path} carries no provenance: it was not made here."
        raise AdapterError(
            what, stage="mesh", action="load foreign adapters with diffusers' load_lora_weights."
        )
    check_tensors(tensors, AdapterHeader.parse(header, path).mesh, path)
    return header, read_safetensors(path)[1] if weights else state
