"""The header of an adapter file, checked before a weight is read or a layer is made.

The header says what will be allocated (rank, layers) and how strong the update is (alpha). It must agree with
the shapes in the file, so that no adapter costs more memory than its own bytes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fade.config import MeshConfig
from fade.errors import AdapterError
from fade.utils.parsing import MalformedError, parse_json

REQUIRED = ("concept", "base_sha256", "rank", "alpha", "targets")
DTYPES = ("F64", "F32", "F16", "BF16")
MAX_TARGETS = 1000
_DOWN, _UP = "lora_A", "lora_B"
_TENSOR = re.compile(rf"(?:unet|transformer)\.[\w.]{{1,200}}\.(?P<part>{_DOWN}|{_UP})\.weight", re.ASCII)
_LISTS = ("targets", "neighbours", "heldout", "parts")


@dataclass(frozen=True)
class AdapterHeader:
    """What an adapter's header names."""

    concept: str
    base_sha256: str
    mesh: MeshConfig
    family: str = ""
    """The model family; files of before there were several name none."""

    @classmethod
    def parse(cls, facts: Mapping[str, str], path: Path) -> AdapterHeader:
        """From the provenance of the file ``path``. Raises AdapterError that names the field."""
        if missing := [name for name in REQUIRED if not facts.get(name)]:
            raise damaged(path, f"it has no {missing[0]}")
        lists = {name: _names(facts[name], name, path) for name in _LISTS if name in facts}
        targets = lists["targets"]
        if not targets or len(targets) > MAX_TARGETS or not all(isinstance(one, str) for one in targets):
            raise damaged(path, f"targets is no list of 1 to {MAX_TARGETS} layers")
        if not re.fullmatch(r"[0-9]{1,9}", facts["rank"], re.ASCII):
            raise damaged(path, f"rank is {facts['rank'][:40]!r}")
        try:
            mesh = MeshConfig(rank=int(facts["rank"]), alpha=float(facts["alpha"]), targets=tuple(targets))
        except ValueError as error:  # pydantic's, too
            raise damaged(path, " ".join(str(error).split())[:200]) from None
        return cls(facts["concept"], facts["base_sha256"], mesh, facts.get("family", ""))


def damaged(path: Path, why: str) -> AdapterError:
    """The error for a header that is not as `LoraAdapter.save` writes it."""
    action = "train it again, or fetch it anew."
    return AdapterError(f"{path}: its header is damaged ({why}).", stage="mesh", action=action)


def check_tensors(tensors: Mapping[str, Any], mesh: MeshConfig, path: Path) -> None:
    """The tensors of a file by their entries in the safetensors header: known names, floating point, of the
    stated rank. Raises AdapterError."""
    if not tensors:
        raise damaged(path, "it names no weight")
    for name, entry in tensors.items():
        if not (match := _TENSOR.fullmatch(name)):
            raise damaged(path, f"{name[:80]!r} is no weight of an adapter")
        dtype, shape = (entry.get(key) if isinstance(entry, dict) else None for key in ("dtype", "shape"))
        if dtype not in DTYPES:
            raise damaged(path, f"{name} has the type {str(dtype)[:40]}, not one of {', '.join(DTYPES)}")
        if not isinstance(shape, list) or len(shape) not in (2, 4) or shape[2:] not in ([], [1, 1]):
            raise damaged(path, f"{name} has shape {str(shape)[:80]}")
        if shape[0 if match["part"] == _DOWN else 1] != mesh.rank:
            raise damaged(path, f"{name} has shape {shape} where the rank {mesh.rank} is stated")


def _names(text: str, name: str, path: Path) -> list[Any]:
    try:
        content = parse_json(text)
    except MalformedError as error:
        raise damaged(path, f"{name}: {error}") from None
    if not isinstance(content, list):
        raise damaged(path, f"{name} is no list")
    return content
