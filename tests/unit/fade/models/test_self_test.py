"""The self-test of a base, a CLIP and a judge: the same for the same weights, another for other ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fade.config import SelfTestConfig
from fade.errors import BaseModelError
from fade.models.base import DiffusionModel
from fade.models.loading import load_model
from fade.models.self_test import PLACES, measure_model, measure_vision, summary
from fade.provenance.self_tests import deviation, make_self_test
from tests.support import make_tiny_base

TOLERANCE = SelfTestConfig().tolerance


@pytest.fixture
def model(tiny_base_dir: Path) -> DiffusionModel:
    return load_model(str(tiny_base_dir), device="cpu")


def differs(a: dict[str, list[float]], b: dict[str, list[float]]) -> str:
    return deviation(make_self_test(a, "a", "float32"), make_self_test(b, "a", "float32"), TOLERANCE)


def test_it_is_small_json_and_the_same_whatever_was_done_before(model: DiffusionModel) -> None:
    first = measure_model(model)
    assert set(first) == {"embedding", "latents", "picture"}
    assert all(len(numbers) == PLACES + 1 for numbers in first.values())
    assert json.loads(json.dumps(first, allow_nan=False)) == first
    state, encoded = torch.get_rng_state(), model.encode(["a panda"]).tokens
    torch.manual_seed(3)
    assert measure_model(model) == first
    assert list(model._encoded) == ["a panda"] and torch.equal(model.encode(["a panda"]).tokens, encoded)
    torch.set_rng_state(state)
    measure_model(model)
    assert torch.equal(torch.get_rng_state(), state)


def test_threads_change_no_digit_that_counts(model: DiffusionModel) -> None:
    first, before = measure_model(model), torch.get_num_threads()
    try:
        torch.set_num_threads(1 if before > 1 else 2)
        assert not differs(first, measure_model(model))
    finally:
        torch.set_num_threads(before)


def test_other_weights_another_prediction_and_another_decoder_are_found(
    model: DiffusionModel, tmp_path: Path
) -> None:
    first = measure_model(model)
    assert differs(first, measure_model(load_model(str(make_tiny_base(tmp_path / "other", seed=1)))))
    own = model.scheduler
    model.scheduler = type(own).from_config(dict(own.config), prediction_type="v_prediction")
    assert differs(first, measure_model(model)).startswith("latents by")
    model.scheduler = own
    bias = model.vae.decoder.conv_out.bias.data
    bias += 0.5
    assert differs(first, measure_model(model)).startswith("picture by")
    bias -= 0.5
    assert not differs(first, measure_model(model))  # the control


def test_a_base_whose_latents_are_not_finite_is_refused(model: DiffusionModel) -> None:
    weight = next(p for name, p in model.denoiser.named_parameters() if name.endswith("to_v.weight"))
    weight.data.mul_(float("inf"))
    with pytest.raises(BaseModelError, match="self-test: the latents of .* are not finite"):
        measure_model(model)


class Vision:
    """Eight mean levels of a picture, at a precision."""

    class prepare:
        size = 16

    def __init__(self, shift: float = 0.0) -> None:
        self.shift = shift

    def __call__(self, pixels: np.ndarray) -> Tensor:
        assert pixels.shape == (1, 16, 16, 3) and pixels.dtype == np.uint8
        return torch.from_numpy(pixels).float().flatten().view(8, -1).mean(1)[None] / 255 + self.shift


def test_pictures_through_a_vision_model() -> None:
    first, same, other = (measure_vision(one, one) for one in (Vision(), Vision(1e-4), Vision(0.3)))
    assert len(first["features"]) == 9 and not differs(first, same)
    assert differs(first, other).startswith("features by")


def test_a_summary_is_in_units_of_its_own_size() -> None:
    values = torch.linspace(-1, 1, 1000)
    small, large = summary(values), summary(values * 50)
    assert small[:-1] == pytest.approx(large[:-1], rel=1e-4) and large[-1] == pytest.approx(
        50 * small[-1], rel=1e-4
    )
    assert summary(torch.zeros(4)) == [0, 0, 0, 0, 1]
