"""The adapters that become one: read, and refused by name where they do not belong together."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from torch import Tensor

from fade.adapters.adapter_file import read_adapter
from fade.adapters.adapter_header import AdapterHeader
from fade.adapters.layers import check_shapes, lora_shapes
from fade.config import MeshConfig
from fade.data.vocabulary import TOGETHER, slug
from fade.errors import AdapterError
from fade.models.base import DiffusionModel
from fade.utils.hashing import sha256_of
from fade.utils.names import skeleton

STAGE = "compose"
DOWN, UP = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True)
class Part:
    """One adapter: its file, provenance, settings and weights."""

    path: Path
    facts: Mapping[str, str]
    header: AdapterHeader
    state: Mapping[str, Tensor]

    @property
    def concept(self) -> str:
        """What it erases; several names are joined by TOGETHER."""
        return self.facts["concept"]

    @property
    def concepts(self) -> list[str]:
        return self.concept.split(TOGETHER)

    @property
    def neighbours(self) -> list[str]:
        """The concepts that its training kept."""
        return [str(name) for name in json.loads(self.facts.get("neighbours", "[]"))]

    @property
    def mesh(self) -> MeshConfig:
        return self.header.mesh

    @cached_property
    def sha256(self) -> str:
        """Of the file."""
        return sha256_of(self.path)

    def change(self, tensor: str) -> tuple[Tensor, Tensor]:
        """up (out, r), its scale alpha / rank included, and down (r, in) of a layer, float64. ``tensor``: the
        layer's name in the file."""
        up, down = (self.state[f"{tensor}{end}"].double().flatten(1) for end in (UP, DOWN))
        return self.mesh.alpha / self.mesh.rank * up, down

    def has(self, tensor: str) -> bool:
        """Whether it changes a layer, by the layer's name in the file."""
        return f"{tensor}{DOWN}" in self.state


def read_parts(model: DiffusionModel, paths: Sequence[Path]) -> list[Part]:
    """The adapters in the order of ``paths``. Raises AdapterError for fewer than two, a concept twice (also
    under two spellings), adapters of several families or bases, and one that does not fit this model."""
    read = [(path, *read_adapter(path)) for path in paths]
    parts = [Part(path, facts, AdapterHeader.parse(facts, path), state) for path, facts, state in read]
    names = [name for part in parts for name in part.concepts]
    if len(parts) < 2 or len({skeleton(name) for name in names}) < len(names):
        what = f"{len(parts)} adapter(s) for {', '.join(repr(part.concept) for part in parts)}."
        raise AdapterError(what, stage=STAGE, action="name two or more adapters, each of another concept.")
    families = {part.header.family for part in parts} - {""}
    if len(families) > 1:
        listed = ", ".join(f"{part.concept!r} {part.header.family}" for part in parts if part.header.family)
        what = f"the adapters are of several families: {listed}."
        raise AdapterError(what, stage=STAGE, action="compose adapters of one family.")
    bases = {own_sha256(model, part) for part in parts}
    if len(bases) > 1:
        what = f"the adapters were trained for different bases: {', '.join(sorted(b[:12] for b in bases))}."
        raise AdapterError(what, stage=STAGE, action="compose adapters of one base.")
    for part in parts:
        check_shapes(lora_shapes(model, part.mesh.targets, part.mesh.rank), part.state)
    return parts


def in_order(parts: Sequence[Part]) -> list[Part]:
    """The parts in the order of their concepts, whoever came first."""
    return sorted(parts, key=lambda part: (slug(part.concept), part.sha256))


def own_sha256(model: DiffusionModel, part: Part) -> str:
    """The hash of a part's base; of this model always the one that is in use now."""
    sha256 = part.facts["base_sha256"]
    return model.sha256 if model.is_base(sha256) else sha256


def targets_of(parts: Sequence[Part]) -> tuple[str, ...]:
    """The layers that any part changes, as mesh.targets."""
    return tuple(dict.fromkeys(target for part in parts for target in part.mesh.targets))


def provenance(model: DiffusionModel, parts: Sequence[Part]) -> dict[str, str]:
    """The header of an adapter that holds all parts."""
    entries = [
        {"concept": part.concept, "method": part.facts.get("method", ""), "sha256": part.sha256}
        for part in parts
    ]
    concepts, bases = [part.concept for part in parts], [part.facts["base_sha256"] for part in parts]
    neighbours = dict.fromkeys(name for part in parts for name in part.neighbours)
    facts = {
        "concept": TOGETHER.join(concepts),
        "method": "composition",
        "neighbours": json.dumps([name for name in neighbours if name not in concepts], ensure_ascii=False),
        "parts": json.dumps(entries, ensure_ascii=False),
        # adapters of an earlier version alone keep the hash of then: their sum has the bytes of then
        "base_sha256": bases[0] if len(set(bases)) == 1 else own_sha256(model, parts[0]),
    }
    first, *others = {part.facts.get("data_md5") for part in parts}
    return facts if others or first is None else {**facts, "data_md5": first}
