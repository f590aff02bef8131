"""The student's and the teacher's predictions from the one UNet."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fade.adapters.lora import LoraAdapter


class Denoiser:
    """The predictor of the losses: one UNet, adapters on for the student and off for the teacher."""

    def __init__(self, model: Any, lora: LoraAdapter) -> None:
        self._model, self._mesh = model, lora  # model: the UNet as accelerate wrapped it

    def student(self, x: Tensor, t: Tensor, emb: Tensor) -> Tensor:
        noise: Tensor = self._model(x, t, encoder_hidden_states=emb).sample
        return noise.float()

    @torch.no_grad()
    def teacher(self, x: Tensor, t: Tensor, emb: Tensor) -> Tensor:
        with self._mesh.off():
            noise: Tensor = self._mesh.unet(x, t, encoder_hidden_states=emb).sample
        return noise.float()
