"""The student's and the teacher's predictions from the one denoiser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from fade.adapters.lora import LoraAdapter
from fade.models.conditioning import Conditioning
from fade.training.memory import UNDIVIDED, StepPlan


class Denoiser:
    """The predictor of the losses: one denoiser, adapters on for the student and off for the teacher.

    in_noise: the noise in x_t according to each prediction takes its place (train.loss_in)."""

    def __init__(
        self, network: Any, lora: LoraAdapter, plan: StepPlan = UNDIVIDED, *, in_noise: bool = False
    ) -> None:
        self._network, self._lora = network, lora  # network: the denoiser as accelerate wrapped it
        self._plan, self._in_noise = plan, in_noise

    def student(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        return self._compared(self._student(x, t, cond, self._network), x, t)

    def probe(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        # the denoiser itself: a process group allows the wrapped one a single pass a step
        return self._compared(self._student(x, t, cond, self._lora.model.denoiser), x, t)

    @torch.no_grad()
    def teacher(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        with self._lora.off():
            parts = self._plan.teacher or len(x)
            output = _in_parts(self._lora.model.predict, x, t, cond, parts).float()
        return self._compared(output, x, t)

    def _compared(self, prediction: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """What the losses get of a prediction in float32."""
        return self._lora.model.to_noise(prediction, x, t) if self._in_noise else prediction

    def _student(self, x: Tensor, t: Tensor, cond: Conditioning, network: Any) -> Tensor:
        def predict(x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
            return self._lora.model.predict(x, t, cond, network).float()

        if self._plan.student is None:
            return predict(x, t, cond)

        def recomputed(x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
            # the denoiser draws nothing, so no random state has to be kept for the second pass
            output: Tensor = checkpoint(predict, x, t, cond, use_reentrant=False, preserve_rng_state=False)
            return output

        return _in_parts(recomputed, x, t, cond, self._plan.student)


def _in_parts(
    predict: Callable[[Tensor, Tensor, Conditioning], Tensor],
    x: Tensor,
    t: Tensor,
    cond: Conditioning,
    n: int,
) -> Tensor:
    """``predict`` of ``n`` latents at a time."""
    parts = [slice(i, i + n) for i in range(0, len(x), max(n, 1))]
    return torch.cat([predict(x[i], t[i], cond[i]) for i in parts]) if parts[1:] else predict(x, t, cond)
