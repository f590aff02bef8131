"""Changes of a denoiser that can be switched off: what an evaluation compares with the original model."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from fade.errors import AdapterError
from fade.models.probe import is_finite

if TYPE_CHECKING:
    from fade.models.base import DiffusionModel


class Change(Protocol):
    """A `LoraAdapter`, or `SwappedWeights`."""

    def off(self) -> AbstractContextManager[None]:
        """Within it the denoiser is the original model, bit for bit."""


@torch.no_grad()
def check_effect(model: DiffusionModel, change: Change, name: str, action: str) -> None:
    """Raises AdapterError unless the denoiser's output is finite and differs from the original model's on a
    fixed probe. action: what to do about a change without an effect."""
    probe = model.example(torch.Generator().manual_seed(0))
    with change.off():
        without = model.predict(*probe)
    output = model.predict(*probe)
    if not is_finite(output):
        what = f"{name} makes the base's output infinite: its weights or its alpha are too large."
        raise AdapterError(what, stage="mesh", action="train it again, or use an intact adapter.")
    if torch.equal(output, without):
        raise AdapterError(f"{name} does not change the base's output.", stage="mesh", action=action)


class SwappedWeights:
    """Other weights in the place of some of the denoiser's own, which stay in memory as they are."""

    def __init__(self, model: DiffusionModel, weights: Mapping[str, Tensor]) -> None:
        """Put ``weights`` (a tensor's name -> one of its shape) into the denoiser, in its dtype."""
        own = model.denoiser.state_dict(keep_vars=True)
        self._tensors = {name: own[name] for name in weights}
        self._own = {name: tensor.data for name, tensor in self._tensors.items()}
        self._other = {name: value.to(self._own[name], copy=True) for name, value in weights.items()}
        self._put(self._other)

    def _put(self, weights: Mapping[str, Tensor]) -> None:
        for name, tensor in self._tensors.items():
            tensor.data = weights[name]

    @contextlib.contextmanager
    def off(self) -> Iterator[None]:
        """See `Change`."""
        self.remove()
        try:
            yield
        finally:
            self._put(self._other)

    def remove(self) -> None:
        """The denoiser's own weights again: the same bytes."""
        self._put(self._own)

    def sha256(self) -> str:
        """Hash of the weights that are put in, by name."""
        digest = hashlib.sha256()
        for name, value in sorted(self._other.items()):
            digest.update(f"{name}{value.dtype}{tuple(value.shape)}".encode())
            digest.update(value.cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()
