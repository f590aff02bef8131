"""Append-only logs (fade/governance/append_log.py) in MLflow: each entry is a version of a model.

MLflow counts versions up and gives no number twice, to concurrent callers too, on SQLite, PostgreSQL and
through a server alike; a log needs nothing else. A tag of the model anchors the last entry, so that a cut end
is seen; the witness (tasks/registry/trust.py) shows it when that tag was set back, too. A further tag of an
entry holds its signature."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from fade.errors import RegistryError
from fade.governance.append_log import LogEntry, StoredEntry, read_log
from fade.governance.audit import Audit
from fade.governance.history import VersionEvent
from fade.governance.leases import LeaseEvent
from fade.governance.promotion import Decision
from fade.governance.witness import Witness
from fade.utils.text import LONGEST_PERSON, checked_text
from tasks.registry.connection import Tracking, registry_errors
from tasks.registry.models import all_versions, ensure_model
from tasks.registry.trust import Trust

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

E = TypeVar("E", bound=LogEntry)
ANCHOR = "head"
"""Tag of a log's model: the anchor of its last entry."""
SIGNATURE = "signature"
"""Tag of an entry: the signature over its log's name and its text."""
TRUST, NOTHING = Trust(), Witness()
TRIES = 20
_TRIES = 6
_NO_FREE_NUMBER = "Giving up after"
"""In MLflow's refusal when many append at once."""


@dataclass(frozen=True)
class AppendLog(Generic[E]):
    """The logs of one kind of entry. A log's name is that of the model that holds it."""

    kind: type[E]
    description: str

    def read(
        self,
        log: str,
        versions: Sequence[ModelVersion],
        model: RegisteredModel | None,
        trust: Trust = TRUST,
        witness: Witness = NOTHING,
    ) -> tuple[list[E], list[E]]:
        """(entries that count, in order; void entries) of the log ``log``.

        model, witness: hold anchors; must not have been read after the versions, or a new entry looks like a
        missing one. trust: with a public key, entries without a signature are refused. Raises the kind's
        ERROR for an edited, missing or cut entry, SignatureError."""
        anchors = [
            ("the registry", model.tags.get(ANCHOR, "") if model else ""),
            *trust.anchors(log, witness),
        ]
        return read_log(self.kind, log, self.stored(versions), anchors=anchors, verify=trust.verify)

    def stored(self, versions: Iterable[ModelVersion]) -> list[StoredEntry]:
        """The entries that the versions hold, as they are."""
        tags = [(int(version.version), version.tags) for version in versions]
        return [StoredEntry(n, one.get(self.kind.KIND, ""), one.get(SIGNATURE, "")) for n, one in tags]

    def append(
        self,
        tracking: Tracking,
        log: str,
        entry: E,
        after: E | None,
        *,
        about: ModelVersion | None = None,
        source: str = "",
        trust: Trust = TRUST,
    ) -> tuple[E, list[E]]:
        """Append an entry behind ``after``, None being an empty log; signed, and recorded by the witness.

        Returns the entry with its number, and the entries that count now: an entry that is not among them is
        void, as another writer was faster. about: the version that the entry is about, whose address and run
        the entry has in MLflow; else ``source`` is the address. Raises RegistryError, SignatureError (nothing
        is appended), StorageError (the witness), the kind's ERROR."""
        entry = replace(entry, **_checked_texts(entry))
        number, digest = (after.number, after.sha256()) if after else (0, "")
        entry = replace(entry, previous=number, previous_sha256=digest if self.kind.HASHED else "")
        file = trust.witness_file(tracking)
        if entry.ordered:
            trust.require_signer(f"{log}: the {self.kind.KIND}")
        if entry.witnessed:
            file.check_writable()
        witness = file.read()
        tags = {self.kind.KIND: entry.to_json()}
        if signature := trust.sign(log, entry.to_json()):
            tags[SIGNATURE] = signature
        # Named as a version: a server lets no one point at a logged model's folder without its id, which a
        # version does not keep.
        source = f"models:/{about.name}/{about.version}" if about else source
        number = self._create(tracking, log, source, about.run_id if about else None, tags)
        entry = replace(entry, number=number)
        counted, _ = self.read(log, all_versions(tracking, log), None, trust, witness)
        # as it was stored: a tuple has become a list
        entry = next((one for one in counted if one.number == entry.number), entry)
        if entry in counted:
            with registry_errors(tracking.address):
                tracking.client.set_registered_model_tag(log, ANCHOR, counted[-1].anchor)
            if entry.witnessed:
                label = f"{about.name}/{about.version}" if about else ""
                file.record(log, counted, entry.revokes, label)
        return entry, counted

    def append_behind_all(
        self, tracking: Tracking, log: str, entry: E, *, about: ModelVersion, trust: Trust = TRUST
    ) -> E:
        """Append an entry behind whatever others were faster: none of them contradicts it. Raises as
        `append`."""
        for _ in range(TRIES):
            witness = trust.witness_file(tracking).read()
            earlier, _void = self.read(log, all_versions(tracking, log), None, trust, witness)
            last = earlier[-1] if earlier else None
            done, counted = self.append(tracking, log, entry, last, about=about, trust=trust)
            if done in counted:
                return done
        what = f"{log}: {TRIES} other entries came first."
        raise self.kind.ERROR(what, stage=self.kind.STAGE, action="try again.")

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
HISTORY_LOG = AppendLog(VersionEvent, "Registrations and re-evaluations, in order; written by `fade run`.")
LEASE_LOG = AppendLog(
    LeaseEvent,
    "What happened to an erasure request, in order; written by `fade requests run` and the scheduler.",
)


def _checked_texts(entry: LogEntry) -> dict[str, Any]:
    """What people wrote into an entry. Raises UsageError for a text that is too long or not plain."""
    limits: dict[str, dict[str, Any]] = {"by": {"longest": LONGEST_PERSON, "lines": False}, "reason": {}}
    texts = {name: str(getattr(entry, name)) for name in limits if hasattr(entry, name)}
    return {name: checked_text(name, text, stage=entry.STAGE, **limits[name]) for name, text in texts.items()}
