"""Verify a registered version: registry, record, adapter, header, signature and decisions held against one
another."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.adapters.adapter_file import read_provenance
from fade.errors import AdapterError, RegistryError, SignatureError
from tasks.registry import signing
from tasks.registry.decision_log import standing
from tasks.registry.lineage import FILE, Traced, read
from tasks.registry.tracking import Tracking, connect, download
from tasks.registry.versions import ADAPTER, fetch, resolve

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

STAGE = "verify"


def verify(wanted: str, runs: Path, public_key: str, *, timeout: float = 60.0) -> list[dict[str, str]]:
    """What was compared, each row ``what`` and ``found``. The first thing that differs is raised and named.

    public_key: the team's; empty, and the signature is not asked for (a row says so). Raises RegistryError
    (tags and record), AdapterError (bytes, header, revoked), SignatureError, PromotionError (decisions)."""
    tracking = connect(runs, timeout=timeout)
    rows: list[dict[str, str]] = []
    hold(tracking, resolve(tracking, wanted), runs, public_key, rows)
    return rows


def hold(
    tracking: Tracking,
    version: ModelVersion,
    runs: Path,
    public_key: str,
    rows: list[dict[str, str]],
    *,
    revoked: bool = False,
) -> tuple[Traced, Path]:
    """As ``verify``, of a version that is at hand: its record and adapter. What was found so far is in
    ``rows``, whatever is raised.

    revoked: a version that was revoked is held, too.
    """
    traced, adapter = examine(tracking, version, runs, public_key, rows, revoked=revoked)
    for label, part in (traced.lineage.content.get("parts") or {}).items():
        found, _ = examine(tracking, resolve(tracking, label), runs, public_key, revoked=revoked)
        said = {"adapter_sha256": found.tags["adapter_sha256"], "lineage_sha256": found.lineage.sha256()}
        for field, value in said.items():
            if part[field] != value:
                what = f"{traced.name}/{traced.version} was made of {label} with {field} {part[field]}, which now has {value}."
                raise RegistryError(
                    what,
                    stage=STAGE,
                    action="do not use it; find out who changed the registry or its artifacts.",
                )
        _told(rows, label, f"verified; is what went in, {part['adapter_sha256'][:12]}")
    decided = standing(tracking, traced.name)
    _told(
        rows,
        "decisions",
        f"{len(decided.decisions)}, unbroken; this version: {decided.states.get(traced.version, 'none')}",
    )
    return traced, adapter


def examine(
    tracking: Tracking,
    version: ModelVersion,
    runs: Path,
    public_key: str,
    rows: list[dict[str, str]] | None = None,
    *,
    revoked: bool = False,
) -> tuple[Traced, Path]:
    """As ``hold``, without its parts and its decisions."""
    rows = [] if rows is None else rows
    traced = read(tracking, version)
    _told(rows, "tags and record", f"agree; record {traced.lineage.sha256()[:12]}")
    adapter = fetch(tracking, version, runs, revoked=revoked)
    _told(rows, "adapter", f"has the registered bytes, {traced.tags['adapter_sha256'][:12]}")
    _told(rows, "header and record", f"agree in {', '.join(_header(traced, adapter))}")
    _told(rows, "signature", signed(tracking, traced, adapter, public_key))
    return traced, adapter


def _told(rows: list[dict[str, str]], what: str, found: str) -> None:
    rows.append({"what": what, "found": found})


def signed(tracking: Tracking, traced: Traced, adapter: Path, public_key: str) -> str:
    """What the signature says. Raises SignatureError when there is none, or it is of something else or by
    another key."""
    if not public_key:
        return "not asked for: signing.public_key is empty"
    label = f"{traced.name}/{traced.version}"
    with tempfile.TemporaryDirectory(prefix="fade-verify-") as scratch:
        found = download(tracking, traced.run_id, signing.FILE, Path(scratch))
        if found is None:
            action = "register it again with signing.private_key set."
            raise SignatureError(f"{label} is not signed.", stage=STAGE, action=action)
        record = traced.lineage.save(Path(scratch) / f"said-{FILE}")
        signing.verify({ADAPTER: adapter, FILE: record}, found, Path(public_key))
    return f"by the owner of {public_key}, over adapter and record"


def _header(traced: Traced, adapter: Path) -> list[str]:
    """The header's fields that the record has, too. Raises AdapterError for one that differs."""
    content: dict[str, Any] = dict(traced.lineage.content)
    header = read_provenance(adapter)
    if "parts" in content:
        return _agree(traced, header, _of_release(content, header))
    code = content["code"]["commit"] or "unknown"
    said = {
        "concept": str(content["neighbourhood"]["target"]),
        "base_sha256": str(content["base"]["sha256"]),
        "data_md5": str(content["data"]["md5"]),
        "seed": str(content["seeds"]["train"]),
    }
    if not content.get("training", {}).get(
        "reused"
    ):  # an adapter that another run trained carries that run's commit and parameters
        said |= {"params_sha256": str(content["params"]["sha256"]), "commit": str(code)}
    return _agree(traced, header, said)


def _of_release(content: Mapping[str, Any], header: Mapping[str, str]) -> dict[str, str]:
    """What a release's header must say. One champion alone is its own bytes, so that header is of one
    part."""
    said = {"concept": str(content["neighbourhood"]["target"]), "base_sha256": str(content["base"]["sha256"])}
    parts = content["parts"].values()
    if len(parts) == 1:
        return said
    hashes = [part["adapter_sha256"] for part in parts]
    named = [part.get("sha256") for part in json.loads(header.get("parts", "[]"))]
    return {
        **said,
        "parts": header.get("parts", "") if sorted(named, key=str) == sorted(hashes) else json.dumps(hashes),
    }


def _agree(traced: Traced, header: Mapping[str, str], said: Mapping[str, str]) -> list[str]:
    for field, value in said.items():
        if header.get(field) != value:
            what = f"{traced.name}/{traced.version}: the adapter's header has {field} {header.get(field)!r}, its record {value!r}."
            raise AdapterError(
                what, stage=STAGE, action="do not use it; find out which of the two was changed."
            )
    return list(said)
