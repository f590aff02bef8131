"""What can be said of a version in seconds, without a re-run: hashes, signature, record, chains, code, data,
environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.errors import AuditError, FadeError
from fade.provenance.lineage import REPOSITORY, environment
from tasks.launch.git_worktree import file_at, has_commit
from tasks.registry.audit_log import audits
from tasks.registry.connection import Tracking
from tasks.registry.lineage import Traced
from tasks.registry.snapshot import RegistrySnapshot
from tasks.registry.verify import verify_version

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

SHOWN = 6
"""Packages that a sentence names."""


@dataclass
class Evidence:
    """One row each: ``what``, ``found``, and ``holds`` (None: told, but nothing depends on it)."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    traced: Traced | None = None
    adapter: Path | None = None

    @property
    def holds(self) -> bool:
        return all(row["holds"] is not False for row in self.rows)

    @property
    def broken(self) -> str:
        """What did not hold, in its own words; empty when all does."""
        return "; ".join(str(row["found"]) for row in self.rows if row["holds"] is False)

    def add(self, what: str, holds: bool | None, found: str) -> None:
        """One row more."""
        self.rows.append({"what": what, "holds": holds, "found": found})


def gather(
    tracking: Tracking, version: ModelVersion, runs: Path, public_key: str, repository: Path = REPOSITORY
) -> Evidence:
    """All rows; whatever does not hold is a row and no exception, faults of the store aside
    (RegistryUnreachableError)."""
    out = Evidence()
    snapshot = RegistrySnapshot.load_model(tracking, str(version.name), public_key)
    found: list[dict[str, str]] = []
    try:
        out.traced, out.adapter = verify_version(snapshot, version, runs, found, revoked=True)
    except FadeError as error:
        failed = str(error)
    else:
        failed = ""
    for row in found:
        out.add(row["what"], None if row["what"] == "signature" and not public_key else True, row["found"])
    if failed:
        out.add("registry, record, adapter", False, failed)
    try:
        kept = audits(snapshot, str(version.name), runs, version)
        out.add("audits", True, f"{len(kept)} before this one, unbroken")
    except AuditError as error:
        out.add("audits", False, str(error))
    if out.traced is not None:
        record = out.traced.lineage.content
        _code(out, record["code"], repository)
        _data(out, record, repository)
        _environment(out, record["environment"])
    return out


def _code(out: Evidence, code: Mapping[str, Any], repository: Path) -> None:
    commit = code["commit"]
    if not commit:
        out.add("code", None, "the run recorded no commit: it was not made from a checkout")
    elif not has_commit(commit, repository):
        out.add("code", None, f"commit {commit[:12]} is not in this repository")
    else:
        clean = {True: "the tree had uncommitted changes", False: "the tree was clean"}.get(
            code["dirty"], "its state is not known"
        )
        out.add("code", True, f"commit {commit[:12]} is here; {clean}")


def _data(out: Evidence, record: Mapping[str, Any], repository: Path) -> None:
    md5, commit = str(record["data"]["md5"]), record["code"]["commit"]
    name = str((record["params"]["values"].get("data") or {}).get("dvc_file", "data.dvc"))
    text = file_at(commit, name, repository) if commit else None
    if text is None:
        out.add("data", None, f"{name} at that commit is not here")
    elif re.search(rf"\bmd5:\s*{re.escape(md5)}\b", text):
        out.add("data", True, f"{name} at that commit names the recorded {md5[:12]}")
    else:
        out.add("data", None, f"{name} at that commit names other data than the recorded {md5[:12]}")


def _environment(out: Evidence, then: Mapping[str, Any]) -> None:
    now = environment(
        device=str(then["device"]), precision=str(then["precision"]), world_size=int(then["world_size"])
    )
    keys = ("python", "platform", "machine", "torch_threads")
    other = [f"{key} {then.get(key)} -> {now[key]}" for key in keys if then.get(key) != now[key]]
    old, new = then.get("packages") or then["libraries"], now["packages"]
    moved = sorted(name for name, version in old.items() if version and new.get(name) != version)
    named = ", ".join(f"{name} {old[name]} -> {new.get(name, 'not here')}" for name in moved[:SHOWN])
    other += (
        [f"{len(moved)} of {len(old)} packages: {named}{', …' if len(moved) > SHOWN else ''}"]
        if moved
        else []
    )
    out.add(
        "environment",
        None if other else True,
        "; ".join(other) or f"the same: {len(old)} packages, Python {now['python']}",
    )
