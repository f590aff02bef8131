"""A gate on an erasing adapter: at inference it acts on a prompt as much as the prompt means the erased
concept.

    gate(p, c) = max(cos(E(p), E(c)), |tokens(c) in tokens(p)| / |tokens(c)|)        in [0, 1]

The idea is SPM's ("facilitated transport", arXiv 2312.16145), and so are the two measures: the cosine of the
text embeddings, all positions as one vector, and the share of the concept's tokens that the prompt holds.
Ours: the concept is put in the template before it is embedded (a name alone is no prompt of this project),
and a negative cosine counts as 0.

Off unless asked for, and no part of the erasure: who has the weights can leave the gate out, and who has the
gate can word a prompt around it. A gated number says what a service that keeps its weights to itself would
show, nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fade.data.vocabulary import fill

if TYPE_CHECKING:
    from fade.adapters.lora import LoraAdapter
    from fade.models.base import DiffusionModel


def gates(base: DiffusionModel, prompts: Sequence[str], concept: str, template: str) -> list[float]:
    """One gate in [0, 1] a prompt; ``template`` (with its slot {concept}) makes a prompt of the concept."""
    meant = fill(template, concept)
    states = base.encode([*prompts, meant]).flatten()  # (B + 1, T D)
    cosines = torch.cosine_similarity(states[:-1], states[-1:]).clamp(0, 1).tolist()
    own, *others = (
        set(base.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in (concept, *prompts)
    )
    shares = [len(own & tokens) / max(1, len(own)) for tokens in others]
    return [max(cosine, share) for cosine, share in zip(cosines, shares, strict=True)]


@contextmanager
def gated(lora: LoraAdapter, gate: float) -> Iterator[None]:
    """Within it the adapter is ``gate`` times as strong (0: the original model's output); after it the
    adapter's own bytes again.

    A merged mesh is merged again at the new strength, so pictures cost no more than without a gate."""
    own, merged = lora.state_dict(), lora.merged

    def load(state: dict[str, Tensor]) -> None:
        lora.unmerge()
        lora.load_state_dict(state)
        if merged:
            lora.merge()

    load({name: value * gate if name.endswith("lora_B.weight") else value for name, value in own.items()})
    try:
        yield
    finally:
        load(own)
