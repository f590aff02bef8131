"""The self-test of a model in memory, for the record of a run and where a job's process loads the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fade.models.self_test import measure_model, measure_vision
from fade.provenance.self_tests import SelfTest, make_self_test

if TYPE_CHECKING:
    from fade.models.base import DiffusionModel


def base_self_test(model: DiffusionModel) -> SelfTest:
    """Raises BaseModelError as `fade.models.self_test.measure_model`."""
    return make_self_test(measure_model(model), model.sha256, _name(model.dtype))


def vision_self_test(vision: Any, output: Any) -> SelfTest:
    """Of a CLIP's features or a judge's logits; see `fade.models.self_test.measure_vision`."""
    dtype = _name(next(vision.model.parameters()).dtype)
    return make_self_test(measure_vision(vision, output), vision.sha256, dtype)


def _name(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")
