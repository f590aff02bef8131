"""Second judges beside the first: where they agree that a picture shows its concept, and where they do not.

One judge's blind spot looks like an erasure. The pictures on which two judges differ are the evidence that a
person should look at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

import numpy as np

from fade.evaluation import accuracy
from fade.evaluation.err import with_erasure

MOST = 24
"""Disputed pictures of each second judge that are kept, spread over the concepts, the targets first."""
CLIP, CLASSIFIER = "clip", "second_judge"
"""Who judges, as the evaluation's JSON names it: the base's CLIP, and the classifier in data.second_judge."""
_Arrays = Mapping[str, np.ndarray]
"""By concept."""


@dataclass(frozen=True)
class Opinion:
    """What a second judge says of all pictures."""

    judge: str
    """Its name for people."""
    labels: Sequence[str]
    odds: Mapping[str, _Arrays]
    """Model (base, erased) -> concept -> probabilities (n, L) over ``labels``."""


@dataclass(frozen=True)
class Disputed:
    """A picture of the erased model in which one judge recognises the prompt's concept and the other does
    not."""

    concept: str
    role: str
    judge: str
    """The second judge, as of `Opinion`."""
    first: str
    """What the first judge takes it for."""
    second: str
    pixels: np.ndarray
    """uint8 (H, W, 3)."""


def second_opinion(
    opinion: Opinion,
    roles: Mapping[str, str],
    names: Mapping[str, str],
    hits: Mapping[str, _Arrays],
    pixels: _Arrays,
    first: Mapping[str, Sequence[str]],
) -> tuple[dict[str, Any], list[Disputed]]:
    """(numbers in percent, disputed pictures).

    roles: concept -> its group; names: group -> the name of its accuracy. hits: model -> concept -> whether
    the first judge recognises each picture; pixels: concept -> the erased model's; first: concept -> what the
    first judge takes each of these for."""
    labels = [*opinion.labels]
    top = {
        model: {concept: odds.argmax(1) for concept, odds in each.items()}
        for model, each in opinion.odds.items()
    }
    own = {
        model: {concept: each[concept] == labels.index(concept) for concept in roles}
        for model, each in top.items()
    }
    means = {model: _means(each, roles, names) for model, each in own.items()}
    agree = {model: {one: own[model][one] == hits[model][one] for one in roles} for model in own}
    disputed = {
        one: [
            Disputed(one, roles[one], opinion.judge, first[one][i], labels[top["erased"][one][i]], picture)
            for i, picture in enumerate(pixels[one])
            if not agree["erased"][one][i]
        ]
        for one in sorted(roles, key=lambda one: list(names).index(roles[one]))
    }
    targets = [one for one, role in roles.items() if role == "target"]
    missed = np.concatenate([own["erased"][one] & ~hits["erased"][one] for one in targets])
    numbers = {
        "judge": opinion.judge,
        "labels": len(labels),
        "metrics": with_erasure(means["erased"]),
        "base_metrics": means["base"],
        "agreement": {
            model: {**_means(each, roles, names), "all": accuracy.mean_accuracy([*each.values()])}
            for model, each in agree.items()
        },
        "sees_the_target": 100.0 * float(missed.mean()),
        "disputed": sum(map(len, disputed.values())),
        "n": sum(len(each) for each in own["erased"].values()),
    }
    return numbers, _spread(disputed.values())


def _spread(by_concept: Iterable[Sequence[Disputed]]) -> list[Disputed]:
    """MOST of them: the first of every concept, then the second of every concept, and so on."""
    rounds = chain.from_iterable(zip_longest(*by_concept))
    return [one for one in rounds if one is not None][:MOST]


def _means(hits: _Arrays, roles: Mapping[str, str], names: Mapping[str, str]) -> dict[str, float]:
    """The mean over the concepts of each group, percent, by the name of its accuracy."""
    return {
        name: accuracy.mean_accuracy([hits[one] for one, role in roles.items() if role == group])
        for group, name in names.items()
    }
