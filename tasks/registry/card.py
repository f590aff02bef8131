"""A version's card in the registry: its description says what was decided and audited since the card was
written."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fade.governance.promotion import Standing
from fade.reporting.status_line import NOT_AUDITED, UNDECIDED, describe, restated
from tasks.registry.decision_log import standing
from tasks.registry.tracking import Tracking, download, faults

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

FILE = "card.md"
AUDIT = {key: f"audit.{key}" for key in ("verdict", "at", "by")}
"""What an audit says, and the version's tags that keep it."""


def refresh(
    tracking: Tracking,
    version: ModelVersion,
    *,
    audit: Mapping[str, str] | None = None,
    decided: Standing | None = None,
) -> str | None:
    """Write the version's description anew: its stored card, what was decided about it and what an audit
    found.

    ``audit``: verdict, at and by; else the version's own tags (`AUDIT`) say it. ``decided``: the decisions,
    when they are at hand. Returns the description; None for a version without a card, which is left as it is.
    Raises RegistryError."""
    name, number = str(version.name), str(version.version)
    with tempfile.TemporaryDirectory(prefix="fade-card-") as scratch:
        found = download(tracking, str(version.run_id), FILE, Path(scratch))
        if found is None:
            return None
        text = found.read_text(encoding="utf-8")
    with faults(tracking.address):
        tags: Mapping[str, str] = tracking.client.get_model_version(name, number).tags
        said = audit or {key: tags[tag] for key, tag in AUDIT.items() if tag in tags}
        written = describe(
            restated(text, _decided(decided or standing(tracking, name), number), _audited(said))
        )
        tracking.client.update_model_version(name, number, description=written)
    return written


def _decided(found: Standing, version: str) -> str:
    last = next((one for one in reversed(found.decisions) if one.version == version), None)
    if last is None:
        return UNDECIDED
    against = ", against the gate" if last.overridden else ""
    why = f" ({_line(last.reason)})" if last.reason else ""
    return f"{found.states[version]}; last: {last.action}{against} by {_line(last.by)} at {last.at}{why}"


def _audited(said: Mapping[str, str]) -> str:
    if not said.get("verdict"):
        return NOT_AUDITED
    told = [
        f"by {_line(said['by'])}" if said.get("by") else "",
        f"at {_line(said['at'])}" if said.get("at") else "",
    ]
    return " ".join([_line(said["verdict"]), *filter(None, told)])


def _line(words: str, longest: int = 300) -> str:
    """Somebody's words on one line, Markdown's signs and HTML without their meaning."""
    from fade.reporting.card import plain

    return plain(words if len(words) <= longest else f"{words[: longest - 1]}…")
