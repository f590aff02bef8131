"""A judge beside what every model is: in transformers' layout, of labels that can be told apart. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fade.data.vocabulary import slug
from fade.errors import BaseModelError
from fade.utils.names import skeleton

STAGE = "judge"
SHOWN = 80
"""Characters of a label in an error."""


def import_action(where: Path | str) -> str:
    """What to do with a classifier in another layout than transformers'."""
    return f"import it by `fade judge import {where} --out DIR`, and name DIR in data.judge."


def is_timm(config: Mapping[str, Any]) -> bool:
    """Whether a configuration is timm's own, or transformers' wrapper around it, which needs timm."""
    own = "architecture" in config and "model_type" not in config
    return own or config.get("model_type") == "timm_wrapper"


def refuse_timm(file: Path, config: Mapping[str, Any]) -> None:
    """Raises BaseModelError for timm's configuration: timm needs a library that breaks transformers here."""
    if is_timm(config):
        what = f"{file} is timm's: its network is not loaded from there."
        raise BaseModelError(what, stage=STAGE, action=import_action(file.parent))


def label_names(config: Mapping[str, Any]) -> list[str]:
    """The labels of a configuration in the order of the logits; empty where it names none, or names them by
    anything but 0, 1, 2, ..."""
    named = config.get("id2label")
    if not isinstance(named, dict):
        return []
    by_position = {str(key): str(value) for key, value in named.items()}
    places = [str(i) for i in range(len(named))]
    return [by_position[place] for place in places] if by_position.keys() == set(places) else []


def equal_labels(labels: list[str]) -> tuple[int, int] | None:
    """The positions of the first two labels that are equal, are so but for case, width or script, or have one
    slug: files and models of the two would be one. None when all can be told apart."""
    for form in (str, skeleton, slug):
        first: dict[str, int] = {}
        for place, label in enumerate(labels):
            if (other := first.setdefault(form(label), place)) != place:
                return other, place
    return None


def check_labels(labels: list[str], where: Path | str, action: str) -> None:
    """Raises BaseModelError that names the positions of two labels which cannot be told apart: a concept's
    place would be the first of the two, and pictures of the other would count as failures."""
    if (pair := equal_labels(labels)) is None:
        return
    one, other = pair
    names = f"{labels[one][:SHOWN]!r} at {one} and {labels[other][:SHOWN]!r} at {other}"
    kind = "are equal" if labels[one] == labels[other] else "cannot be told apart"
    raise BaseModelError(f"{where}: the labels {names} {kind}.", stage=STAGE, action=action)


def check_judge(file: Path, config: Mapping[str, Any]) -> None:
    """`check_labels` of a judge's configuration. Raises BaseModelError."""
    action = f"rename one of the two: `fade judge import {file.parent} --names FILE --out DIR`"
    check_labels(label_names(config), file, f"{action} (imagenet for ImageNet's thousand).")
