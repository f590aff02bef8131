"""Second moments of the text states that prompts become: all that a closed form reads of them.

A moment is accumulated a few prompts at a time and holds D x D numbers, so memory does not grow with the
prompts; those of several champions are on the disk, one at a time in memory. A stored moment that does not
match its key is made again, never trusted: a build that was killed goes on where it was, to the same
bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from fade.provenance.fingerprints import code_sha256, versions
from fade.utils.devices import device_name
from fade.utils.hashing import fingerprint

if TYPE_CHECKING:
    from fade.models.base import DiffusionModel

PROMPTS = 64
"""Prompts of one call: its composition decides an embedding's last bits, so it is fixed."""
KIND = "moments"


class TensorStore(Protocol):
    """See `fade.generation.cache.Cache`, which verifies what it returns."""

    def get(self, kind: str, key: str) -> dict[str, Tensor] | None:
        """The tensors of an entry; None where there is none, or one that was changed."""

    def put(self, kind: str, key: str, tensors: Mapping[str, Tensor]) -> Path:
        """Store an entry, whole or not at all."""


def text_states(model: DiffusionModel, prompts: Sequence[str]) -> Iterator[Tensor]:
    """(n T, D) states of all tokens of a few prompts, padding included, float64 on the CPU, a part of the
    prompts after the other; nothing stays in memory."""
    for start in range(0, len(prompts), PROMPTS):
        with model.no_embeddings():
            tokens = model.encode(prompts[start : start + PROMPTS]).tokens
        yield tokens.detach().cpu().double().flatten(0, 1)


def mean_moment(parts: Iterator[Tensor]) -> Tensor:
    """Mean of x x^T (D, D) over the rows x of all ``parts`` (n, D); float64."""
    total: Tensor | None = None
    count = 0
    for rows in parts:
        product = rows.T @ rows
        total = product if total is None else total.add_(product)
        count += len(rows)
    assert total is not None, "a moment is of one prompt or more"
    return total / count


def prompt_moment(model: DiffusionModel, prompts: Sequence[str], store: TensorStore | None = None) -> Tensor:
    """`mean_moment` of the prompts' states; from the store where it has it. Raises StorageError."""
    if store is None:
        return mean_moment(text_states(model, prompts))
    key = _key(model, prompts)
    if (stored := store.get(KIND, key)) is not None:
        return stored["moment"]
    moment = mean_moment(text_states(model, prompts))
    store.put(KIND, key, {"moment": moment})
    return moment


def _key(model: DiffusionModel, prompts: Sequence[str]) -> str:
    """Everything that decides a moment to its last bit."""
    at_once = min(PROMPTS, model.batches.prompts)  # of one call, where memory allows no more
    where = [device_name(model.device), str(model.dtype), torch.get_num_threads(), at_once]
    inputs = {"base": model.sha256, "prompts": [*prompts], "where": where}
    made_by = {"code": code_sha256("models", "moments"), **versions(("torch", "transformers"))}
    return fingerprint({**inputs, "made_by": made_by})[:32]


@dataclass(frozen=True)
class PromptMoments(Sequence[Tensor]):
    """The moments of several sets of prompts, each made or read when it is needed: one in memory."""

    model: DiffusionModel
    prompts: Sequence[Sequence[str]]
    store: TensorStore | None = None

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, i: int) -> Tensor:  # type: ignore[override]
        return prompt_moment(self.model, self.prompts[i], self.store)
