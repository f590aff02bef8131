"""What the site shows, as plain values: everything is text or numbers, whatever the store holds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

from fade.utils.hashing import canonical, fingerprint

SCHEMA = 1
CHAMPION, REVOKED, UNREADABLE = "champion", "revoked", "unreadable"
GOOD_STATES = frozenset({CHAMPION, "done", "promote", "identical", "equivalent", "evidence holds"})
BAD_STATES = frozenset({
    *(REVOKED, UNREADABLE, "failed", "missing", "faulty", "revoke"),
    *("different", "not reproducible", "evidence broken"),
})  # fmt: skip
NEED_SOMEBODY = ("failed", "missing", "faulty", UNREADABLE)
"""States of a request that the scheduler alone does not end."""
_PLAIN_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Entry:
    """One entry of a log."""

    number: int
    by: str
    at: str
    what: str
    """Action, verdict or kind of event."""
    detail: str = ""
    note: str = ""
    """``overridden``, ``void``, or the verdict on an audit's control."""
    signed: bool = False
    criteria: tuple[tuple[str, bool], ...] = ()
    """Of a promotion: each criterion with its numbers, and whether it holds."""


@dataclass(frozen=True)
class RequestRow:
    """One erasure request, as `tasks.requests.status.RequestStatus` has it, and its events."""

    id: str
    state: str
    detail: str = ""
    concept: str = ""
    requested_by: str = ""
    reason: str = ""
    due: str = ""
    overdue: bool = False
    version: str = ""
    worker: str = ""
    since: str = ""
    failures: int = 0
    events: tuple[Entry, ...] = ()

    @property
    def file(self) -> str:
        return f"requests/{file_name(self.id)}.html"

    @property
    def needs_somebody(self) -> bool:
        return self.state in NEED_SOMEBODY


@dataclass(frozen=True)
class Number:
    """One metric in percent; None where it was not measured."""

    title: str
    erased: float | None
    original: float | None = None


@dataclass(frozen=True)
class VersionRow:
    """One registered version; of a release ``parts`` and ``concepts`` are not empty."""

    name: str
    number: str
    concept: str = ""
    method: str = ""
    seed: str = ""
    state: str = ""
    """champion, retired, rejected, revoked, unreadable; empty before the first decision."""
    release: bool = False
    made_at: str = ""
    run_id: str = ""
    adapter_sha256: str = ""
    lineage_sha256: str = ""
    data_md5: str = ""
    base_sha256: str = ""
    commit: str = ""
    overrides: tuple[str, ...] = ()
    neighbours: tuple[str, ...] = ()
    numbers: tuple[Number, ...] = ()
    concepts: tuple[tuple[str, tuple[Number, ...]], ...] = ()
    """Of a release: each concept's numbers in it."""
    parts: tuple[str, ...] = ()
    revoked_parts: tuple[str, ...] = ()
    checks: tuple[tuple[str, int, int], ...] = ()
    """Stage, data checks that hold, data checks in all."""
    stale: str = ""
    reevaluated_at: str = ""
    decisions: tuple[Entry, ...] = ()
    audits: tuple[Entry, ...] = ()
    pictures: tuple[str, ...] = ()
    """Paths below the site's folder."""
    evidence: tuple[tuple[str, str], ...] = ()
    """What an evidence file is, and its path below the site's folder."""
    problem: str = ""
    """Why the version's record cannot be read or trusted."""

    @property
    def label(self) -> str:
        return f"{self.name}/{self.number}"

    @property
    def file(self) -> str:
        return f"versions/{file_name(self.label)}.html"

    @property
    def champion(self) -> bool:
        return self.state == CHAMPION

    @property
    def last_audit(self) -> str:
        """Its verdict; empty when there was none."""
        return self.audits[-1].what if self.audits else ""


@dataclass(frozen=True)
class Problem:
    """A record that cannot be read or trusted, and the sentence that names why."""

    what: str
    why: str


@dataclass(frozen=True)
class SiteData:
    """The registry at one moment. Two sites of the same registry differ in ``made_at`` alone."""

    made_at: str
    generator: str
    """Version of this package, and a hash of the code and templates that make the pages."""
    prefix: str
    requests: tuple[RequestRow, ...] = ()
    versions: tuple[VersionRow, ...] = ()
    problems: tuple[Problem, ...] = ()
    benchmark: tuple[str, ...] = ()
    """Files of the benchmark's report, paths below the site's folder; the page first."""
    evidence: tuple[str, ...] = ()
    public_key_sha256: str = ""
    records: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    """Label of a version -> its lineage record; in the evidence, not in ``data.json``."""

    def to_json(self) -> str:
        """The text of ``data.json``: canonical JSON, without the time of making and the records."""
        bare = asdict(replace(self, records={}))
        fields = {key: value for key, value in bare.items() if key not in ("made_at", "records")}
        return canonical({"schema": SCHEMA, **fields}) + "\n"

    @cached_property
    def by_label(self) -> Mapping[str, VersionRow]:
        return {version.label: version for version in self.versions}

    @cached_property
    def requests_of(self) -> Mapping[str, list[RequestRow]]:
        """Label of a version -> the requests that it was made for."""
        found: dict[str, list[RequestRow]] = {}
        for request in self.requests:
            found.setdefault(request.version, []).append(request)
        return found

    @cached_property
    def releases_of(self) -> Mapping[str, list[VersionRow]]:
        """Label of a version -> the releases that hold it."""
        found: dict[str, list[VersionRow]] = {}
        for version in self.versions:
            for part in version.parts:
                found.setdefault(part, []).append(version)
        return found

    @property
    def adapters(self) -> list[VersionRow]:
        return [version for version in self.versions if not version.release]

    @property
    def releases(self) -> list[VersionRow]:
        """Newest first."""
        return sorted((one for one in self.versions if one.release), key=lambda one: -int(one.number))

    @property
    def champions(self) -> list[VersionRow]:
        return [version for version in self.adapters if version.champion]

    @property
    def current_release(self) -> VersionRow | None:
        return next((version for version in self.releases if version.champion), None)

    @property
    def overdue(self) -> list[RequestRow]:
        """By date."""
        return sorted((one for one in self.requests if one.overdue), key=lambda one: (one.due, one.id))

    @property
    def need_somebody(self) -> list[RequestRow]:
        return [request for request in self.requests if request.needs_somebody]

    @property
    def failed_audits(self) -> list[VersionRow]:
        """The versions whose last audit has no good verdict."""
        return [one for one in self.versions if one.last_audit and one.last_audit not in GOOD_STATES]

    def log(self, kind: str) -> list[tuple[VersionRow, Entry]]:
        """The ``decisions`` or ``audits`` of all versions, newest first by the time that they name."""
        rows = [(version, entry) for version in self.versions for entry in getattr(version, kind)]
        return sorted(rows, key=lambda row: (row[1].at, row[0].name, row[1].number), reverse=True)


def file_name(label: str) -> str:
    """A file name for any label, the same on every file system: letters that two systems tell apart
    differently, and whatever is no plain name, get a hash."""
    plain = label.replace("/", "-")
    if label.count("/") <= 1 and _PLAIN_NAME.fullmatch(plain) and ".." not in plain:
        return plain
    return f"{re.sub(r'[^a-z0-9]+', '-', label.lower())[:60].strip('-') or 'x'}-{fingerprint(label)[:12]}"
