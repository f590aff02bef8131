"""A second judge beside the first: where they agree that a picture shows its concept, and where they do not.

One judge's blind spot looks like an erasure. The pictures on which two judges differ are the evidence that a
person should look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fade.evaluation import accuracy

MOST = 24
"""Disputed pictures that are kept, those of the targets first."""
_Arrays = Mapping[str, np.ndarray]
"""By concept."""


@dataclass(frozen=True)
class Disputed:
    """A picture of the erased model in which one judge recognises the prompt's concept and the other does
    not."""

    concept: str
    role: str
    first: str
    """What the first judge takes it for."""
    second: str
    pixels: np.ndarray
    """uint8 (H, W, 3)."""


def second_opinion(
    second: accuracy.Judge,
    name: str,
    roles: Mapping[str, str],
    names: Mapping[str, str],
    hits: Mapping[str, _Arrays],
    pixels: Mapping[str, _Arrays],
    first: Mapping[str, Sequence[str]],
) -> tuple[dict[str, Any], list[Disputed]]:
    """(numbers in percent, disputed pictures).

    name: of the second judge. roles: concept -> its group; names: group -> the name of its accuracy. hits:
    model -> concept -> whether the first judge recognises each picture; pixels: the pictures; first: concept
    -> what the first judge takes each picture of the erased model for."""
    found = {
        model: {concept: odds.argmax(1) for concept, odds in accuracy.probabilities(second, each).items()}
        for model, each in pixels.items()
    }
    own = {
        model: {concept: each[concept] == second.index(concept) for concept in roles}
        for model, each in found.items()
    }
    means = {model: _means(each, roles, names) for model, each in own.items()}
    agree = {
        model: {one: own[model][one] == hits[model][one] for one in roles} for model in ("base", "erased")
    }
    disputed = [
        Disputed(
            one, roles[one], first[one][i], second.labels[found["erased"][one][i]], pixels["erased"][one][i]
        )
        for one in sorted(roles, key=lambda one: list(names).index(roles[one]))
        for i in np.flatnonzero(~agree["erased"][one]).tolist()
    ]
    targets = [one for one, role in roles.items() if role == "target"]
    missed = np.concatenate([own["erased"][one] & ~hits["erased"][one] for one in targets])
    numbers = {
        "judge": name,
        "labels": len(second.labels),
        "metrics": {"A_er": 100.0 - means["erased"]["A_tar"], **_without(means["erased"], "A_tar")},
        "base_metrics": means["base"],
        "agreement": {
            model: {**_means(each, roles, names), "all": accuracy.mean_accuracy([*each.values()])}
            for model, each in agree.items()
        },
        "sees_the_target": 100.0 * float(missed.mean()),
        "disputed": len(disputed),
        "n": sum(len(each) for each in own["erased"].values()),
    }
    return numbers, disputed[:MOST]


def _means(hits: _Arrays, roles: Mapping[str, str], names: Mapping[str, str]) -> dict[str, float]:
    """The mean over the concepts of each group, percent, by the name of its accuracy."""
    return {
        name: accuracy.mean_accuracy([hits[one] for one, role in roles.items() if role == group])
        for group, name in names.items()
    }


def _without(values: Mapping[str, float], key: str) -> dict[str, float]:
    return {name: value for name, value in values.items() if name != key}
