"""A version's card in the registry: its description says what was decided and audited since the card was
written."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fade.governance.promotion import Standing
from fade.reporting.card import NOT_AUDITED, UNDECIDED, describe, restated
from fade.reporting.page import plain
from tasks.registry.connection import Tracking, registry_errors
from tasks.registry.log_store import TRUST
from tasks.registry.runs import download_artifact
from tasks.registry.snapshot import RegistrySnapshot
from tasks.registry.trust import Trust

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

FILE = "card.md"
AUDIT = {key: f"audit.{key}" for key in ("verdict", "at", "by")}
"""Fields of an audit, and the version's tags that hold them."""


def refresh(
    tracking: Tracking,
    version: ModelVersion,
    *,
    audit: Mapping[str, str] | None = None,
    standing: Standing | None = None,
    trust: Trust = TRUST,
) -> str | None:
    """Write the version's description anew: its stored card, the decisions about it and its last audit.

    ``audit``: verdict, at and by; else those of the version's tags (`AUDIT`). ``standing``: the decisions,
    when they are read already. Returns the description; None for a version without a card, which is left as
    it is. Raises RegistryError."""
    name, number = str(version.name), str(version.version)
    with tempfile.TemporaryDirectory(prefix="fade-card-") as scratch:
        file = download_artifact(tracking, str(version.run_id), FILE, Path(scratch))
        if file is None:
            return None
        card = file.read_text(encoding="utf-8")
    standing = standing or RegistrySnapshot.load(tracking, name, trust).standing(name)
    with registry_errors(tracking.address):
        tags: Mapping[str, str] = tracking.client.get_model_version(name, number).tags
        audit = audit or {key: tags[tag] for key, tag in AUDIT.items() if tag in tags}
        description = describe(restated(card, _decision_line(standing, number), _audit_line(audit)))
        tracking.client.update_model_version(name, number, description=description)
    return description


def _decision_line(standing: Standing, version: str) -> str:
    last = standing.last(version)
    if last is None:
        return UNDECIDED
    against = ", against the gate" if last.overridden else ""
    why = f" ({_one_line(last.reason)})" if last.reason else ""
    state = standing.states[version]
    return f"{state}; last: {last.action}{against} by {_one_line(last.by)} at {last.at}{why}"


def _audit_line(audit: Mapping[str, str]) -> str:
    if not audit.get("verdict"):
        return NOT_AUDITED
    facts = [f"{key} {_one_line(audit[key])}" for key in ("by", "at") if audit.get(key)]
    return " ".join([_one_line(audit["verdict"]), *facts])


def _one_line(text: str, longest: int = 300) -> str:
    """A person's text on one line, Markdown's signs and HTML without their meaning."""
    return plain(text if len(text) <= longest else f"{text[: longest - 1]}…")
