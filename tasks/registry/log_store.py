"""Append-only logs (fade/governance/append_log.py) in MLflow: each entry is a version of a model.

MLflow counts versions up and gives no number twice, to concurrent callers too, on SQLite, PostgreSQL and
through a server alike; a log needs nothing else. A tag of the model anchors the last entry, so that a cut end
is seen. A further tag of an entry may hold its signature."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from fade.errors import RegistryError
from fade.governance.append_log import LogEntry, verify_anchor, verify_log
from fade.governance.audit import Audit
from fade.governance.promotion import Decision
from fade.utils.text import LONGEST_PERSON, checked_text
from tasks.registry.connection import Tracking, registry_errors
from tasks.registry.models import all_versions, ensure_model, log_subject
from tasks.registry.signing import sign_text, verify_text

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

E = TypeVar("E", bound=LogEntry)
ANCHOR = "head"
"""Tag of a log's model: the anchor of its last entry."""
SIGNATURE = "signature"
"""Tag of an entry: the signature over its log's name and its text."""
_TRIES = 6
_NO_FREE_NUMBER = "Giving up after"
"""In MLflow's refusal when many append at once."""


@dataclass(frozen=True)
class AppendLog(Generic[E]):
    """The logs of one kind of entry. A log's name is that of the model that holds it."""

    kind: type[E]
    description: str

    def parse(self, version: ModelVersion) -> E:
        """The entry that a version holds. Raises the kind's ERROR."""
        return self.kind.parse(int(version.version), version.tags.get(self.kind.KIND, ""))

    def read(
        self, log: str, versions: Sequence[ModelVersion], model: RegisteredModel | None, public_key: str = ""
    ) -> tuple[list[E], list[E]]:
        """(entries that count, in order; void entries) of the log ``log``.

        model: holds the anchor; must not have been read after the versions, or a new entry looks like a
        missing one. public_key: PEM file; signatures, as far as entries have them, are verified. Raises the
        kind's ERROR for an edited, missing or cut entry, SignatureError."""
        counted, void = verify_log([self.parse(version) for version in versions])
        if model is not None and (anchor := model.tags.get(ANCHOR)):
            verify_anchor(self.kind, counted, anchor, log_subject(log))
        if public_key:
            for version in versions:
                if signature := version.tags.get(SIGNATURE):
                    text = _signed_text(log, version.tags[self.kind.KIND])
                    what = f"{log}: {self.kind.KIND} {version.version}"
                    verify_text(text, signature, Path(public_key), what)
        return counted, void

    def append(
        self,
        tracking: Tracking,
        log: str,
        entry: E,
        after: E | None,
        *,
        about: ModelVersion | None = None,
        source: str = "",
        private_key: str = "",
    ) -> tuple[E, list[E]]:
        """Append an entry behind ``after``, None being an empty log, and sign it when there is a key.

        Returns the entry with its number, and the entries that count now: an entry that is not among them is
        void, as another writer was faster. about: the version that the entry is about, whose address and run
        the entry has in MLflow; else ``source`` is the address. Raises RegistryError, SignatureError (nothing
        is appended), the kind's ERROR."""
        entry = replace(entry, **_checked_texts(entry))
        number, digest = (after.number, after.sha256()) if after else (0, "")
        entry = replace(entry, previous=number, previous_sha256=digest if self.kind.HASHED else "")
        tags = {self.kind.KIND: entry.to_json()}
        if private_key:
            tags[SIGNATURE] = sign_text(_signed_text(log, entry.to_json()), Path(private_key))
        # Named as a version: a server lets no one point at a logged model's folder without its id, which a
        # version does not keep.
        source = f"models:/{about.name}/{about.version}" if about else source
        number = self._create(tracking, log, source, about.run_id if about else None, tags)
        entry = replace(entry, number=number)
        counted, _ = self.read(log, all_versions(tracking, log), None)
        # as it was stored: a tuple has become a list
        entry = next((one for one in counted if one.number == entry.number), entry)
        if entry in counted:
            with registry_errors(tracking.address):
                tracking.client.set_registered_model_tag(log, ANCHOR, counted[-1].anchor)
        return entry, counted

    def _create(
        self, tracking: Tracking, log: str, source: str, run_id: str | None, tags: dict[str, str]
    ) -> int:
        for attempt in range(1, _TRIES + 1):
            try:
                with registry_errors(tracking.address):
                    ensure_model(tracking, log, description=self.description)
                    created = tracking.client.create_model_version(log, source, run_id, tags=tags)
                return int(created.version)
            except RegistryError as error:
                if _NO_FREE_NUMBER not in error.what or attempt == _TRIES:
                    raise
                time.sleep(random.uniform(0.05, 0.4) * attempt)
        raise AssertionError("unreachable")


DECISION_LOG = AppendLog(Decision, "What was decided, in order; written by `fade promote` and its like.")
AUDIT_LOG = AppendLog(Audit, "Audits, in order; written by `fade audit`.")


def _checked_texts(entry: LogEntry) -> dict[str, Any]:
    """What people wrote into an entry. Raises UsageError for a text that is too long or not plain."""
    limits: dict[str, dict[str, Any]] = {"by": {"longest": LONGEST_PERSON, "lines": False}, "reason": {}}
    texts = {name: str(getattr(entry, name)) for name in limits if hasattr(entry, name)}
    return {name: checked_text(name, text, stage=entry.STAGE, **limits[name]) for name, text in texts.items()}


def _signed_text(log: str, text: str) -> str:
    """With the log's name: an entry that is copied into another log does not verify there."""
    return f"{log}\n{text}"
