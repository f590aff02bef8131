"""What prompts become for a denoiser of any family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor


class TextPath(NamedTuple):
    """One of the ways by which a text reaches the denoiser: a block of the token states, or the pooled
    vector."""

    tokens: slice = slice(None)
    """Which tokens."""
    widths: slice = slice(None)
    """Which numbers of each."""
    pooled: bool = False
    """The pooled vector, and no token."""


@dataclass(frozen=True)
class Conditioning:
    """What prompts became. Every tensor has one row a prompt."""

    tokens: Tensor
    """(B, T, D) states of the text's tokens."""
    pooled: Tensor | None = None
    """(B, P) one vector a prompt; SDXL, SD3, Flux."""
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    """Further inputs of the denoiser, (B, ...), by name."""

    def __len__(self) -> int:
        return len(self.tokens)

    def map(self, change: Callable[[Tensor], Tensor]) -> Conditioning:
        """``change`` applied to every tensor."""
        pooled = None if self.pooled is None else change(self.pooled)
        return Conditioning(
            change(self.tokens), pooled, {key: change(one) for key, one in self.extra.items()}
        )

    def __getitem__(self, rows: slice | Tensor) -> Conditioning:
        """The prompts of a slice, or of an index or mask (n,)."""
        return self.map(lambda one: one[rows])

    def expand(self, n: int) -> Conditioning:
        """One prompt as ``n``, without a copy."""
        return self.map(lambda one: one.expand(n, *one.shape[1:]))

    def repeat_interleave(self, n: int) -> Conditioning:
        """Each prompt ``n`` times, one after the other."""
        return self.map(lambda one: one.repeat_interleave(n, dim=0))

    def join(self, *others: Conditioning) -> Conditioning:
        """These prompts and the others', in one batch."""
        pooled = None if self.pooled is None else torch.cat([one.pooled for one in (self, *others)])  # type: ignore[misc]
        extra = {key: torch.cat([one.extra[key] for one in (self, *others)]) for key in self.extra}
        return Conditioning(torch.cat([one.tokens for one in (self, *others)]), pooled, extra)

    def with_tokens(self, tokens: Tensor) -> Conditioning:
        """Other token states (B, T, D); the rest of one prompt, or of these B, beside them."""
        rest = self if len(self) == len(tokens) else self.expand(len(tokens))
        return replace(rest, tokens=tokens)

    def with_path(self, path: TextPath, other: Conditioning) -> Conditioning:
        """These prompts, with what ``other`` (one prompt, or as many) has on one path."""
        if path.pooled:
            assert self.pooled is not None and other.pooled is not None
            return replace(self, pooled=other.pooled.expand_as(self.pooled))
        tokens = self.tokens.clone()
        tokens[:, path.tokens, path.widths] = other.tokens[:, path.tokens, path.widths]
        return replace(self, tokens=tokens)

    def to(self, device: torch.device | str) -> Conditioning:
        return self.map(lambda one: one.to(device))

    def flatten(self) -> Tensor:
        """(B, T D) the token states of each prompt as one vector."""
        return self.tokens.flatten(1)
