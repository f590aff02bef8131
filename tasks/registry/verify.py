"""Verify a version: registry, record, adapter, header, signature and decisions compared with one another."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.adapters.adapter_file import read_provenance
from fade.data.vocabulary import slug
from fade.errors import AdapterError, RegistryError, SignatureError
from fade.governance.history import TAMPERED, registered_at
from fade.governance.log_names import HISTORY
from fade.governance.stored_values import parse_json
from fade.provenance.lineage import FILE
from fade.utils.files import scratch_folder
from tasks.registry import signing
from tasks.registry.lineage import Traced, read
from tasks.registry.log_store import TRUST
from tasks.registry.runs import download_artifact
from tasks.registry.snapshot import RegistrySnapshot
from tasks.registry.trust import Trust
from tasks.registry.versions import ADAPTER, fetch, open_version, resolve

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

STAGE = "verify"


def verify(selection: str, runs: Path, trust: Trust = TRUST) -> list[dict[str, str]]:
    """What was compared, each row ``what`` and ``found``. The first thing that differs is raised and named.

    trust: without a public key no signature is verified (a row says so). Raises RegistryError (registration,
    tags and record), AdapterError (bytes, header, revoked), SignatureError, PromotionError (decisions)."""
    rows: list[dict[str, str]] = []
    verify_version(*open_version(selection, runs, trust), runs, rows)
    return rows


def verify_version(
    snapshot: RegistrySnapshot,
    version: ModelVersion,
    runs: Path,
    rows: list[dict[str, str]] | None = None,
    *,
    parts: bool = True,
    revoked: bool = False,
) -> tuple[Traced, Path]:
    """As ``verify``, of a resolved version, by the snapshot's trust: its record and adapter.

    rows: gets one row per check, also when a later check raises. parts: whether those of a release are
    verified, too. revoked: whether a revoked version is verified."""
    rows = [] if rows is None else rows
    traced = read(snapshot, version)
    if bound := snapshot.binding(version):
        _add(rows, "registration", f"agrees with {len(bound.tags)} tags")
    check_concept(traced)
    _add(rows, "tags and record", f"agree; record {traced.lineage.sha256()[:12]}")
    adapter = fetch(snapshot, version, runs, revoked=revoked)
    _add(rows, "adapter", f"has the registered bytes, {traced.tags['adapter_sha256'][:12]}")
    _add(rows, "header and record", f"agree in {', '.join(_compare_header(traced, adapter))}")
    _add(rows, "signature", verify_signature(snapshot, traced, adapter))
    for label, part in (traced.lineage.content.get("parts") or {}).items() if parts else ():
        now, _ = verify_version(snapshot, resolve(snapshot, label), runs, parts=False, revoked=revoked)
        hashes = {"adapter_sha256": now.tags["adapter_sha256"], "lineage_sha256": now.lineage.sha256()}
        for field, value in hashes.items():
            if part[field] != value:
                before = f"{traced.label} was made of {label} with {field} {part[field]}"
                what = f"{before}, which now has {value}."
                raise RegistryError(what, stage=STAGE, action=TAMPERED, tampered=True)
        _add(rows, label, f"verified; is what went in, {part['adapter_sha256'][:12]}")
    standing = snapshot.standing(traced.name)
    state = standing.states.get(traced.version, "none")
    _add(rows, "decisions", f"{len(standing.decisions)}, unbroken; this version: {state}")
    return traced, adapter


def check_concept(traced: Traced) -> None:
    """Raises RegistryError for a version that stands in the model of another concept."""
    if "parts" in traced.lineage.content:
        return
    concept = str(traced.lineage.content["neighbourhood"]["target"])
    if not traced.name.endswith(f"-{slug(concept)}"):
        what = f"{traced.label} erases {concept!r}, and its model is that of another concept."
        raise RegistryError(what, stage=STAGE, action=TAMPERED, tampered=True)


def _add(rows: list[dict[str, str]], what: str, result: str) -> None:
    rows.append({"what": what, "found": result})


def verify_signature(snapshot: RegistrySnapshot, traced: Traced, adapter: Path) -> str:
    """The row of the signature over adapter and record. Raises SignatureError when there is none, or it is of
    other files or not by a key of the team that may have signed this version."""
    trust = snapshot.trust
    if trust.keyring is None:
        return "not asked for: signing.public_key is empty"
    log, number = f"{traced.name}{HISTORY}", registered_at(snapshot.history(traced.name), traced.version)
    keys = [key.pem for key in trust.keyring.keys if key.may_sign(log, number)]
    with scratch_folder(STAGE) as scratch:
        signature = download_artifact(snapshot.tracking, traced.run_id, signing.FILE, scratch)
        if signature is None:
            action = f"if it is the team's, `fade keys adopt {traced.name}`; else do not use it."
            raise SignatureError(f"{traced.label} is not signed.", stage=STAGE, action=action, tampered=True)
        record = traced.lineage.save(scratch / f"verified-{FILE}")
        signing.verify({ADAPTER: adapter, FILE: record}, signature, Path(trust.public_key), keys)
    return f"by the owner of {trust.public_key}, over adapter and record"


def _compare_header(traced: Traced, adapter: Path) -> list[str]:
    """The fields that header and record both have. Raises AdapterError for one that differs."""
    content: Mapping[str, Any] = traced.lineage.content
    header = read_provenance(adapter)
    expected = {"concept": content["neighbourhood"]["target"], "base_sha256": content["base"]["sha256"]}
    if "parts" in content:
        expected |= _expected_parts(content, header)
    else:
        expected |= {"data_md5": content["data"]["md5"], "seed": content["seeds"]["train"]}
        # an adapter that another run trained carries that run's commit and parameters
        if not content.get("training", {}).get("reused"):
            commit = content["code"]["commit"] or "unknown"
            expected |= {"params_sha256": content["params"]["sha256"], "commit": commit}
    for field, value in expected.items():
        if header.get(field) != str(value):
            in_header = f"{traced.label}: the adapter's header has {field} {header.get(field)!r}"
            action = "do not use it; find out which of the two was changed."
            what = f"{in_header}, its record {str(value)!r}."
            raise AdapterError(what, stage=STAGE, action=action, tampered=True)
    return list(expected)


def _expected_parts(content: Mapping[str, Any], header: Mapping[str, str]) -> dict[str, str]:
    """``parts`` as a release's header must have it, which names them in any order; empty for a release of one
    champion, which is that champion's own bytes."""
    hashes = [part["adapter_sha256"] for part in content["parts"].values()]
    parts = parse_json(header.get("parts", "[]"), "the parts in the adapter's header", list)
    named = [part.get("sha256") if isinstance(part, dict) else None for part in parts]
    same = sorted(named, key=str) == sorted(hashes)
    expected = {"parts": header.get("parts", "") if same else json.dumps(hashes)}
    return expected if len(hashes) > 1 else {}
