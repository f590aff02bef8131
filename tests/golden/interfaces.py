"""What others build upon: exit codes and parameters (what a run prints, writes and registers: run.py)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import fade.erasers  # noqa: F401 (registers the knobs of the section method)
from fade import errors
from fade.config import Params

FILE = "interfaces.json"


def exit_codes() -> dict[str, int]:
    """The exit code of each error of the tree, by its class's name."""
    todo: list[type[errors.FadeError]] = [errors.FadeError]
    out: dict[str, int] = {}
    while todo:
        one = todo.pop()
        if one.__module__ == errors.__name__:
            out[one.__name__] = one.exit_code
        todo += one.__subclasses__()
    return dict(sorted(out.items()))


def parameters() -> dict[str, Any]:
    """Every key of params.yaml, dotted, and its default."""
    return dict(_leaves(Params().model_dump(mode="json", by_alias=True)))


def _leaves(node: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        name = f"{at}.{key}" if at else key
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, name)
        else:
            yield name, value
