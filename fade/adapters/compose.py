"""Composition: adapters that were trained apart, added up into one that erases all their concepts. Ours.

The sum of LoRA updates is a LoRA whose rank is the sum of theirs, so nothing is lost: down matrices are
stacked, up matrices (scaled by their alpha / rank) stand side by side. A layer that only some adapters have
gets zeros from the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor

from fade.adapters.lora import LoraAdapter
from fade.adapters.parts import DOWN, STAGE, Part, provenance, read_parts, targets_of
from fade.config import MeshConfig
from fade.config.run import MAX_RANK
from fade.errors import AdapterError
from fade.models.base import DiffusionModel


def compose(model: DiffusionModel, paths: Sequence[Path], out: Path) -> str:
    """Write the sum of the adapters to ``out``; its header names the parts. Returns its sha256. The model
    is left as it was.

    Raises AdapterError as `read_parts`, and for a sum whose output is not finite or whose rank is too
    large."""
    return write_sum(model, read_parts(model, paths), out)


def write_sum(model: DiffusionModel, parts: Sequence[Part], out: Path) -> str:
    """As `compose`, of parts that were read."""
    rank = sum_rank(parts)
    mesh = MeshConfig(rank=rank, alpha=float(rank), targets=targets_of(parts))
    lora = LoraAdapter.insert(model, mesh, seed=0)
    try:
        lora.load_state_dict(stacked(lora.state_dict(), parts))
        lora.check_effect("the sum of the adapters")
        return lora.save(out, provenance(model, parts))
    finally:
        lora.remove()


def sum_rank(parts: Sequence[Part]) -> int:
    """The rank of the sum. Raises AdapterError, which names the concept at which it is too large."""
    ranks = [*accumulate(part.mesh.rank for part in parts)]
    for part, rank in zip(parts, ranks, strict=True):
        if rank > MAX_RANK:
            what = f"the sum of the adapters has the rank {ranks[-1]}, more than {MAX_RANK}: "
            what += f"{part.concept!r} is the first for which there is no room."
            raise AdapterError(what, stage=STAGE, action="compose fewer of them.")
    return ranks[-1]


def stacked(shapes: Mapping[str, Tensor], parts: Sequence[Part]) -> dict[str, Tensor]:
    """The weights of the sum, of the names and shapes of ``shapes``; beyond the sum's rank they are zero."""
    out = {name: torch.zeros_like(value) for name, value in shapes.items()}
    start = 0
    for part in parts:
        mesh = part.mesh
        scale, place = mesh.alpha / mesh.rank, slice(start, start + mesh.rank)
        for name, value in part.state.items():
            if name.endswith(DOWN):
                out[name][place] = value
            else:
                out[name][:, place] = scale * value
        start += mesh.rank
    return out
