"""The tree of `fade lineage`: sections of a record, shortened for a screen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from flows.cli import screen

if TYPE_CHECKING:
    from tasks.registry.lineage import Traced

_SHOWN = 8
"""Members of a list that the tree shows; --json has all."""


def show_tree(traced: Traced) -> None:
    """Print a version's record, a branch a section."""
    title = f"{traced.name}/{traced.version}  lineage sha256 {traced.lineage.sha256()[:12]}"
    sections = traced.lineage.content.items()
    branches = {
        name: _lines(_summary(name, content)) for name, content in sections if isinstance(content, Mapping)
    }
    screen.show_tree(title, branches)


def _summary(section: str, content: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the tree shows of a section: less, where that has more than a screen holds."""
    match section:
        case "data":
            megabytes = content.get("size", 0) / 1e6
            return {"md5": content["md5"], "files": f"{len(content['files'])} files, {megabytes:.1f} MB"}
        case "environment":
            short = {key: value for key, value in content.items() if key not in ("libraries", "packages")}
            return {**short, "packages": f"{len(content.get('packages', {}))} in the lock"}
        case "params":
            return {key: content[key] for key in ("sha256", "overrides")}
        case "neighbourhood":
            keys = ("target", "neighbours", "heldout", "cache_key", "seed")
            return {key: content[key] for key in keys if key in content}
        case "inputs":
            return {**(content["before"] or {}), "the same after": content["unchanged"]}
        case "checks":
            return {
                stage: f"{sum(check['success'] for check in checks)} of {len(checks)} hold"
                for stage, checks in content.items()
            }
        case "release":
            settings, predicted = content["settings"], content["predicted"]
            kept = {f"{name} concepts": len(names) for name, names in settings["kept"].items()}
            shown = {key: predicted[key] for key in ("rank", "groups", "breaks") if key in predicted}
            return {**settings["config"], **kept, "predicted": shown}
    return content


def _lines(values: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, str]]:
    """(dotted key, text) of everything in ``values``."""
    for key, value in values.items():
        name = f"{at}{key}"
        if isinstance(value, Mapping) and value:
            yield from _lines(value, f"{name}.")
        elif isinstance(value, list | tuple):
            more = f" and {len(value) - _SHOWN} more" if len(value) > _SHOWN else ""
            yield name, (", ".join(map(str, value[:_SHOWN])) + more) or "none"
        elif isinstance(value, bool):  # before numbers: 1 is not yes
            yield name, "yes" if value else "no"
        else:
            yield name, "-" if value in (None, "", {}) else str(value)
