"""Composition: adapters that were trained apart, added up into one that erases all their concepts. Ours.

The sum of LoRA updates is a LoRA whose rank is the sum of theirs, so nothing is lost: down matrices are
stacked, up matrices (scaled by their alpha / rank) stand side by side. A layer that only some adapters have
gets zeros from the others."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from fade.adapters.adapter_file import read_adapter
from fade.adapters.adapter_header import AdapterHeader
from fade.adapters.layers import check_shapes, lora_shapes
from fade.adapters.lora import LoraAdapter
from fade.config import MeshConfig
from fade.config.run import MAX_RANK
from fade.data.vocabulary import TOGETHER
from fade.errors import AdapterError
from fade.models.base import DiffusionModel
from fade.utils.hashing import sha256_of

_STAGE = "compose"
DOWN = ".lora_A.weight"


def compose(model: DiffusionModel, paths: Sequence[Path], out: Path) -> str:
    """Write the sum of the adapters to ``out``; its header names the parts. Returns its sha256. The model
    is left as it was.

    Raises AdapterError for fewer than two adapters, a concept twice, adapters of different bases, one that
    does not fit this model, and a sum whose output is not finite.
    """
    read = [read_adapter(path) for path in paths]
    headers = [header for header, _ in read]
    concepts = [name for header in headers for name in header["concept"].split(TOGETHER)]
    if len(paths) < 2 or len(set(concepts)) < len(concepts):
        what = f"{len(paths)} adapter(s) for {', '.join(repr(header['concept']) for header in headers)}."
        raise AdapterError(what, stage=_STAGE, action="name two or more adapters, each of another concept.")
    bases = {_own(model, header["base_sha256"]) for header in headers}
    if len(bases) > 1:
        what = f"the adapters were trained for different bases: {', '.join(sorted(b[:12] for b in bases))}."
        raise AdapterError(what, stage=_STAGE, action="compose adapters of one base.")
    meshes = [AdapterHeader.parse(header, path).mesh for header, path in zip(headers, paths, strict=True)]
    for mesh, (_, state) in zip(meshes, read, strict=True):
        check_shapes(lora_shapes(model, mesh.targets, mesh.rank), state)
    rank = sum(mesh.rank for mesh in meshes)
    if rank > MAX_RANK:
        what = f"the sum of the adapters has the rank {rank}, more than {MAX_RANK}."
        raise AdapterError(what, stage=_STAGE, action="compose fewer of them.")
    targets = tuple(dict.fromkeys(target for mesh in meshes for target in mesh.targets))
    lora = LoraAdapter.insert(model, MeshConfig(rank=rank, alpha=float(rank), targets=targets), seed=0)
    try:
        lora.load_state_dict(_stacked(lora.state_dict(), [state for _, state in read], meshes))
        lora.check_effect("the sum of the adapters")
        return lora.save(out, _provenance(model, headers, paths))
    finally:
        lora.remove()


def _stacked(
    shapes: Mapping[str, Tensor], states: Sequence[Mapping[str, Tensor]], meshes: Sequence[MeshConfig]
) -> dict[str, Tensor]:
    out = {name: torch.zeros_like(value) for name, value in shapes.items()}
    start = 0
    for state, mesh in zip(states, meshes, strict=True):
        scale, place = mesh.alpha / mesh.rank, slice(start, start + mesh.rank)
        for name, value in state.items():
            if name.endswith(DOWN):
                out[name][place] = value
            else:
                out[name][:, place] = scale * value
        start += mesh.rank
    return out


def _own(model: DiffusionModel, sha256: str) -> str:
    """A base's hash; of this model always the one that is in use now."""
    return model.sha256 if model.is_base(sha256) else sha256


def _provenance(
    model: DiffusionModel, headers: Sequence[Mapping[str, str]], paths: Sequence[Path]
) -> dict[str, str]:
    parts = [
        {"concept": h["concept"], "method": h.get("method", ""), "sha256": sha256_of(p)}
        for h, p in zip(headers, paths, strict=True)
    ]
    neighbours = dict.fromkeys(name for h in headers for name in json.loads(h.get("neighbours", "[]")))
    concepts, bases = [part["concept"] for part in parts], [header["base_sha256"] for header in headers]
    facts = {
        "concept": TOGETHER.join(concepts),
        "method": "composition",
        "neighbours": json.dumps([name for name in neighbours if name not in concepts], ensure_ascii=False),
        "parts": json.dumps(parts, ensure_ascii=False),
        # adapters of an earlier version alone keep the hash of then: their sum has the bytes of then
        "base_sha256": bases[0] if len(set(bases)) == 1 else _own(model, bases[0]),
    }
    first, *others = {header.get("data_md5") for header in headers}
    return facts if others or first is None else {**facts, "data_md5": first}
