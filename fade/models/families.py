"""The families, registered by the class of their pipeline: one file of this folder each."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import TypeVar

import fade.models
from fade.models.base import DiffusionModel

F = TypeVar("F", bound=type[DiffusionModel])
_FAMILIES: dict[str, type[DiffusionModel]] = {}


def register(pipeline: str) -> Callable[[F], F]:
    """Make the class the family of models whose ``model_index.json`` names this pipeline of diffusers."""

    def add(family: F) -> F:
        _FAMILIES[pipeline] = family
        return family

    return add


def known_families() -> dict[str, type[DiffusionModel]]:
    """Pipeline -> family, sorted by pipeline."""
    for module in pkgutil.iter_modules(fade.models.__path__):
        importlib.import_module(f"fade.models.{module.name}")
    return dict(sorted(_FAMILIES.items()))
