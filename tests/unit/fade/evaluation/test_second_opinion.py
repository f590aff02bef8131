"""A second judge beside the first: agreement, and what they differ on, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fade.errors import EvaluationError
from fade.evaluation.second_opinion import MOST, second_opinion
from fade.evaluation.zero_shot import ZeroShot

NAMES = {"target": "A_tar", "adjacent": "A_adj", "heldout": "A_heldout", "rest": "A_rest"}
ROLES = {"panda": "target", "koala": "adjacent", "bear": "heldout", "tulip": "rest"}
LABELS = [*ROLES]


class Reads:
    """Reads a picture's label from its first pixel."""

    labels = LABELS

    def index(self, concept: str) -> int:
        return LABELS.index(concept)

    def __call__(self, pixels: np.ndarray) -> Tensor:
        return torch.nn.functional.one_hot(torch.from_numpy(pixels[:, 0, 0, 0]).long(), len(LABELS)).float()


def drawn_as(*labels: int) -> np.ndarray:
    """Pictures that `Reads` takes for these labels."""
    return np.array(labels, dtype=np.uint8)[:, None, None, None].repeat(3, axis=-1)


def opinion(erased: dict[str, np.ndarray], hits: dict[str, list[bool]]) -> tuple[dict[str, Any], list[Any]]:
    base = {name: drawn_as(i, i) for i, name in enumerate(LABELS)}
    known = {name: np.array([True, True]) for name in LABELS}
    found = {"base": known, "erased": {name: np.array(one) for name, one in hits.items()}}
    first = {name: ["something"] * 2 for name in LABELS}
    return second_opinion(Reads(), "second", ROLES, NAMES, found, {"base": base, "erased": erased}, first)


def test_agreement_accuracies_and_disputed_pictures() -> None:
    erased = {
        "panda": drawn_as(0, 1),
        "koala": drawn_as(1, 1),
        "bear": drawn_as(2, 0),
        "tulip": drawn_as(3, 3),
    }
    hits = {"panda": [False, False], "koala": [True, True], "bear": [True, True], "tulip": [True, False]}
    numbers, disputed = opinion(erased, hits)
    assert numbers["metrics"] == {"A_er": 50.0, "A_adj": 100.0, "A_heldout": 50.0, "A_rest": 100.0}
    assert numbers["base_metrics"] == dict.fromkeys(NAMES.values(), 100.0)
    erased_agreement = {"target": 50.0, "adjacent": 100.0, "heldout": 50.0, "rest": 50.0, "all": 62.5}
    assert {group: numbers["agreement"]["erased"][NAMES.get(group, group)] for group in erased_agreement} == (
        erased_agreement
    )
    assert numbers["agreement"]["base"]["all"] == 100.0
    assert numbers["sees_the_target"] == 50.0 and (numbers["disputed"], numbers["n"]) == (3, 8)
    assert [(one.concept, one.role, one.second) for one in disputed] == [
        ("panda", "target", "panda"),
        ("bear", "heldout", "panda"),
        ("tulip", "rest", "tulip"),
    ]


def test_judges_that_agree_dispute_nothing_and_few_pictures_are_kept() -> None:
    own = {name: drawn_as(i, i) for i, name in enumerate(LABELS)}
    numbers, disputed = opinion(own, {name: [True, True] for name in LABELS})
    assert numbers["disputed"] == 0 and disputed == []
    many = {name: drawn_as(*[0] * 40) for name in LABELS}
    roles, known = {"panda": "target"}, {"panda": np.ones(40, dtype=bool)}
    missed = {"panda": np.zeros(40, dtype=bool)}
    pixels = {"base": many, "erased": many}
    numbers, disputed = second_opinion(
        Reads(), "second", roles, NAMES, {"base": known, "erased": missed}, pixels, {"panda": ["x"] * 40}
    )
    assert numbers["disputed"] == 40 and len(disputed) == MOST


class Encoder:
    """Texts and pictures as known vectors."""

    def text(self, prompts: list[str]) -> Tensor:
        assert prompts == [f"a {name}" for name in LABELS]
        return torch.eye(len(LABELS))

    def __call__(self, pixels: np.ndarray) -> Tensor:
        return torch.nn.functional.one_hot(torch.from_numpy(pixels[:, 0, 0, 0]).long(), len(LABELS)).float()


def test_the_zero_shot_judge_takes_the_nearest_prompt() -> None:
    judge = ZeroShot(Encoder(), "a {concept}", LABELS)  # type: ignore[arg-type]
    odds = judge(drawn_as(2, 0, 3))
    assert odds.argmax(1).tolist() == [2, 0, 3] and torch.allclose(odds.sum(1), torch.ones(3))
    assert judge.index("bear") == 2
    with pytest.raises(EvaluationError, match="no label 'rose'"):
        judge.index("rose")
