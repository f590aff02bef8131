"""Second judges beside the first: agreement, and what they differ on, by hand."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import torch

from fade.evaluation.second_opinion import MOST, Opinion, second_opinion
from fade.evaluation.zero_shot import zero_shot

NAMES = {"target": "A_tar", "adjacent": "A_adj", "heldout": "A_heldout", "rest": "A_rest"}
ROLES = {"panda": "target", "koala": "adjacent", "bear": "heldout", "tulip": "rest"}
LABELS = [*ROLES]
Labels = dict[str, list[int]]


def odds(labels: Labels) -> dict[str, np.ndarray]:
    return {name: np.eye(len(LABELS))[each] for name, each in labels.items()}


def opinion(erased: Labels, hits: dict[str, list[bool]]) -> tuple[dict[str, Any], list[Any]]:
    base = {name: [i, i] for i, name in enumerate(LABELS)}
    found = {
        "base": {name: np.array([True, True]) for name in LABELS},
        "erased": {name: np.array(one) for name, one in hits.items()},
    }
    first = {name: ["something"] * 2 for name in LABELS}
    pixels = {name: np.zeros((2, 1, 1, 3), np.uint8) for name in LABELS}
    second = Opinion("second", LABELS, {"base": odds(base), "erased": odds(erased)})
    return second_opinion(second, ROLES, NAMES, found, pixels, first)


def test_agreement_accuracies_and_disputed_pictures() -> None:
    erased = {"panda": [0, 1], "koala": [1, 1], "bear": [2, 0], "tulip": [3, 3]}
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
    assert [(one.concept, one.role, one.judge, one.second) for one in disputed] == [
        ("panda", "target", "second", "panda"),
        ("bear", "heldout", "second", "panda"),
        ("tulip", "rest", "second", "tulip"),
    ]


def test_judges_that_agree_dispute_nothing() -> None:
    own = {name: [i, i] for i, name in enumerate(LABELS)}
    numbers, disputed = opinion(own, {name: [True, True] for name in LABELS})
    assert numbers["disputed"] == 0 and disputed == []


def test_one_concept_does_not_fill_all_places() -> None:
    n = 40
    counts = {"panda": n, "koala": 0, "bear": 3, "tulip": n}  # pictures that the first judge misses
    own = odds({name: [i] * n for i, name in enumerate(LABELS)})
    hits = {name: np.arange(n) >= counts[name] for name in LABELS}
    pixels = {name: np.zeros((n, 1, 1, 3), np.uint8) for name in LABELS}
    second = Opinion("second", LABELS, {"base": own, "erased": own})
    known = {name: np.ones(n, dtype=bool) for name in LABELS}
    first = {name: ["x"] * n for name in LABELS}
    numbers, disputed = second_opinion(second, ROLES, NAMES, {"base": known, "erased": hits}, pixels, first)
    assert numbers["disputed"] == 83 and len(disputed) == MOST
    assert Counter(one.concept for one in disputed) == {"panda": 11, "bear": 3, "tulip": 10}
    assert [one.concept for one in disputed[:4]] == ["panda", "bear", "tulip", "panda"]


def test_zero_shot_takes_the_nearest_prompt() -> None:
    pictures = torch.eye(4)[[2, 0, 3]]
    found = zero_shot(pictures, torch.eye(4))
    assert found.argmax(1).tolist() == [2, 0, 3] and torch.allclose(found.sum(1), torch.ones(3))
