"""The student's and the teacher's predictions from the one denoiser."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fade.adapters.lora import LoraAdapter
from fade.models.base import Conditioning


class Denoiser:
    """The predictor of the losses: one denoiser, adapters on for the student and off for the teacher."""

    def __init__(self, network: Any, lora: LoraAdapter) -> None:
        self._network, self._lora = network, lora  # network: the denoiser as accelerate wrapped it

    def student(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        return self._lora.model.predict(x, t, cond, self._network).float()

    @torch.no_grad()
    def teacher(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        with self._lora.off():
            return self._lora.model.predict(x, t, cond).float()
