"""The tree of `fade lineage`: sections of a record, shortened for a screen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from flows.cli.screen import escape

_SHOWN = 8
"""Members of a section that the tree shows; --json has all."""


def _data(section: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "md5": section["md5"],
        "files": f"{len(section['files'])} files, {section.get('size', 0) / 1e6:.1f} MB",
    }


def _environment(section: Mapping[str, Any]) -> dict[str, Any]:
    packages = section.get("packages", {})
    return {
        **{k: v for k, v in section.items() if k not in ("libraries", "packages")},
        "packages": f"{len(packages)} in the lock",
    }


def _params(section: Mapping[str, Any]) -> dict[str, Any]:
    return {"sha256": section["sha256"], "overrides": section["overrides"]}


def _neighbourhood(section: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: section[key]
        for key in ("target", "neighbours", "heldout", "cache_key", "seed")
        if key in section
    }


def _inputs(section: Mapping[str, Any]) -> dict[str, Any]:
    return {**(section["before"] or {}), "the same after": section["unchanged"]}


def _checks(section: Mapping[str, Any]) -> dict[str, Any]:
    return {
        stage: f"{sum(one['success'] for one in found)} of {len(found)} hold"
        for stage, found in section.items()
    }


SUMMARIES = {
    "data": _data,
    "environment": _environment,
    "params": _params,
    "neighbourhood": _neighbourhood,
    "inputs": _inputs,
    "checks": _checks,
}
"""What the tree says of a section that has more than a screen holds."""


def grow(branch: Any, values: Mapping[str, Any]) -> None:
    for label, text in _lines(values):
        branch.add(f"{escape(label)}  {escape(text)}")


def _lines(values: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, str]]:
    """(dotted key, text) of everything in ``values``."""
    for key, value in values.items():
        name = f"{at}{key}"
        if isinstance(value, Mapping) and value:
            yield from _lines(value, f"{name}.")
        elif isinstance(value, list | tuple):
            more = f" and {len(value) - _SHOWN} more" if len(value) > _SHOWN else ""
            yield name, (", ".join(map(str, value[:_SHOWN])) + more) or "none"
        else:
            yield name, _text(value)


def _text(value: Any) -> str:
    if isinstance(value, bool):  # before numbers: 1 is not yes
        return "yes" if value else "no"
    return "-" if value in (None, "", {}) else str(value)
