"""What is mined is looked at before anything is trained on it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from fade.config import Params
from fade.errors import EvaluationError
from fade.generation.generator import Pictures
from tasks.stages.mine import check_mined, least_known

NAMES = ("panda", "bear")


class Judge:
    """Recognises the first ``known`` of each concept's pictures, and takes the others for a taxi."""

    def __init__(self, *known: int) -> None:
        self.known = known if len(known) > 1 else known * len(NAMES)

    def require(self, names: list[str]) -> None: ...

    def index(self, name: str) -> int:
        return NAMES.index(name)

    def __call__(self, pixels: np.ndarray) -> torch.Tensor:
        each = len(pixels) // len(NAMES)
        label = [i if one < self.known[i] else 2 for i in range(len(NAMES)) for one in range(each)]
        return torch.eye(3)[label]


def mined(known: int | tuple[int, int], folder: Path, **evaluate: Any) -> Any:
    """The checks of eight pictures a concept."""
    noise = np.random.default_rng(0).integers(0, 255, (8, 64, 64, 3), np.uint8)
    params = Params.model_validate({"evaluate": evaluate})
    made = {f"a {name}": Pictures(torch.zeros(8, 4, 2, 2), noise, "") for name in NAMES}
    generator = SimpleNamespace(sampler=params.sampler, generate=lambda *_: made)
    models = SimpleNamespace(judge=Judge(*([known] if isinstance(known, int) else known)))
    run = SimpleNamespace(params=params, generator=generator, models=models, runs=folder, folder=folder)
    neighborhood = SimpleNamespace(targets=["panda"], neighbours=["bear"], seed=0, images_per_concept=8)
    return check_mined(run, neighborhood)  # type: ignore[arg-type]


def test_a_base_of_which_the_judge_knows_no_picture_is_not_trained_on(tmp_path: Path) -> None:
    """As with random weights, of which all would count as erased."""
    sentence = "mine: the judge recognises 0.0 % of the original model's pictures of panda; at least 12.5 %"
    with pytest.raises(EvaluationError, match=sentence) as caught:
        mined(0, tmp_path)
    assert caught.value.exit_code == 1 and "data.judge" in caught.value.action
    assert mined(1, tmp_path).results  # the control: the evaluation, of more pictures, decides
    assert mined(0, tmp_path, base_known=0).results


def test_a_neighbour_that_the_judge_does_not_know_stops_the_run_before_the_training(tmp_path: Path) -> None:
    """What is unknown before cannot be measured to stay."""
    sentence = "mine: the judge recognises 0.0 % of the original model's pictures of bear; at least 12.5 %"
    with pytest.raises(EvaluationError, match=sentence):
        mined((8, 0), tmp_path)
    assert mined((8, 1), tmp_path).results
    assert mined((0, 0), tmp_path, base_known=0).results
    with pytest.raises(
        EvaluationError, match="50.0 % of the original model's pictures of bear; at least 62.5 %"
    ):
        mined((8, 4), tmp_path, base_known=70)
    assert mined((8, 5), tmp_path, base_known=70).results


def test_of_few_pictures_one_of_the_targets_is_enough() -> None:
    assert least_known(20, 8, target=True) == least_known(20, 8, target=False) == 12.5
    assert (least_known(20, 2, target=True), least_known(20, 2, target=False)) == (50, 0)
    assert least_known(0, 8, target=True) == least_known(0, 8, target=False) == 0
    assert least_known(100, 8, target=True) == 100
