"""Re-evaluation: compare a champion's base, judge and data with the current ones, and evaluate its adapter
where one of them changed."""

from __future__ import annotations

import getpass
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.config import Params
from fade.errors import FadeError
from fade.governance import history
from fade.governance.history import VersionEvent
from fade.governance.log_names import HISTORY
from fade.run.context import RunContext
from fade.run.resolve_params import parse_params
from fade.run.worlds import other_world
from tasks.registry.connection import Tracking, registry_errors
from tasks.registry.lineage import Traced, read
from tasks.registry.log_store import HISTORY_LOG
from tasks.registry.runs import final_metrics, open_run
from tasks.registry.snapshot import RegistrySnapshot
from tasks.registry.versions import fetch
from tasks.requests.status import (
    REEVALUATED,
    STALE,
    gate_record,
    last_evaluation,
    stale_reason,
    unmet_criteria,
)

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

    from fade.mining.neighborhood import Neighborhood

STAGE = "re-evaluate"
UNCHANGED, EVALUATED, OUTDATED, FAULT = "unchanged", "reevaluated", "stale", "failed"
"""Results."""
HASHES = {"base": "sha256", "judge": "sha256", "data": "md5"}
"""Section of a record -> key of the hash of what a version was evaluated with."""


def current_inputs(params: Params, root: Path, data_md5: str) -> dict[str, tuple[str, ...]]:
    """Hashes of what a version is evaluated with: ``base`` and ``judge``, which the parameters name and which
    are not loaded, and ``data``; of each the one that is recorded now, then that of earlier versions. Raises
    BaseModelError when one is missing."""
    models = RunContext(params, "", Path("runs"), root).models
    hashes = {role: (models.sha256(role), models.legacy_sha256(role)) for role in ("base", "judge")}
    return {**hashes, "data": (data_md5,)}


def reevaluate_version(
    snapshot: RegistrySnapshot,
    version: ModelVersion,
    params: Params,
    runs: Path,
    root: Path,
    now: Mapping[str, tuple[str, ...]],
) -> dict[str, Any]:
    """Re-evaluate one champion; returns a row with ``result``, ``changed``, ``passes`` and ``why``. Raises
    FadeError.

    Another base: the adapter does not fit, the version is recorded as stale, which reopens its request.
    Another judge or data: an MLflow run has the new numbers, the model's history what the gate reads. Tags
    ``stale`` and ``reevaluated`` follow."""
    tracking = snapshot.tracking
    traced = read(snapshot, version)
    changed = _changed_inputs(snapshot, version, traced, now)
    row = {"model": traced.name, "version": traced.version, "changed": changed}
    why = next((f"the {one}" for one in changed if one.startswith("base ")), "")
    if why and (world := other_world(params, traced.lineage.content, root)):
        why = f"{why}: it was made on the world {world!r}"
    if why != stale_reason(snapshot, version):
        _record(snapshot, version, history.STALE, {"why": why})
    _tag(tracking, version, STALE, why)
    if why:
        return {**row, "passes": None, "why": why, "result": OUTDATED}
    if not changed:
        return {**row, **last_result(snapshot, version, traced, params), "result": UNCHANGED}
    numbers = evaluate_version(snapshot, version, traced, params, runs, root)
    record = gate_record({**traced.lineage.content, "outputs": numbers, "inputs": {"unchanged": True}})
    name, target = f"re-evaluate {traced.label}", traced.tags.get("target", "")
    tags = {"target": target, "reevaluates": traced.label, "changed": ", ".join(changed)}
    with open_run(tracking, params.register_.experiment, name, tags) as run:
        run.log_metrics(0, final_metrics(record["outputs"]))
    at = datetime.now(UTC).isoformat(timespec="seconds")
    tag = {"at": at, "judge": now["judge"][0], "data": now["data"][0], "run_id": run.run_id, "record": record}
    _record(snapshot, version, history.REEVALUATED, tag)
    _tag(tracking, version, REEVALUATED, json.dumps(tag, allow_nan=False))
    return {**row, **_gate_result(record, params), "result": EVALUATED}


def _record(
    snapshot: RegistrySnapshot, version: ModelVersion, event: str, content: Mapping[str, Any]
) -> None:
    """Append to the model's history. Raises RegistryError, SignatureError."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    by = os.environ.get("FADE_USER") or getpass.getuser()
    entry = VersionEvent(number=0, by=by, at=at, version=str(version.version), event=event, content=content)
    log = f"{version.name}{HISTORY}"
    HISTORY_LOG.append_behind_all(snapshot.tracking, log, entry, about=version, trust=snapshot.trust)


def _changed_inputs(
    snapshot: RegistrySnapshot, version: ModelVersion, traced: Traced, now: Mapping[str, tuple[str, ...]]
) -> list[str]:
    """The inputs that differ from those of the version's last evaluation, each as ``name old -> new``, 12
    digits a hash."""
    record, last = traced.lineage.content, last_evaluation(snapshot, version) or {}
    before = {name: record[name][key] for name, key in HASHES.items()}
    before |= {name: str(last[name]) for name in ("judge", "data") if name in last}
    changed = {name: old for name, old in before.items() if old not in now[name]}
    return [f"{name} {old[:12]} -> {now[name][0][:12]}" for name, old in changed.items()]


def _tag(tracking: Tracking, version: ModelVersion, key: str, text: str) -> None:
    """Set a tag of the version; an empty text deletes it."""
    with registry_errors(tracking.address):
        if text:
            tracking.client.set_model_version_tag(version.name, version.version, key, text)
        elif key in version.tags:
            tracking.client.delete_model_version_tag(version.name, version.version, key)


def last_result(
    snapshot: RegistrySnapshot, version: ModelVersion, traced: Traced, params: Params
) -> dict[str, Any]:
    """``passes`` and ``why`` by the gate, from the version's last evaluation. Raises RegistryError."""
    last = last_evaluation(snapshot, version)
    return _gate_result(last["record"] if last else traced.lineage.content, params)


def _gate_result(record: Mapping[str, Any], params: Params) -> dict[str, Any]:
    unmet = unmet_criteria(record, params.gate)
    return {"passes": not unmet, "why": "; ".join(unmet)}


def evaluate_version(
    snapshot: RegistrySnapshot,
    version: ModelVersion,
    traced: Traced,
    params: Params,
    runs: Path,
    root: Path,
) -> dict[str, Any]:
    """Evaluate the version's adapter by the current judge on the current data, with the version's own
    settings and neighbours; returns an evaluation's numbers."""
    from tasks.stages.evaluate import evaluate_adapter

    record = traced.lineage.content
    current = params.model_dump(mode="json", by_alias=True)
    values = {**current, **record["params"]["values"], "data": current["data"]}
    neighborhood = recorded_neighborhood(record["neighbourhood"])
    settings = parse_params(values, f"the record of {version.name}/{version.version}")
    run = RunContext(settings, neighborhood.targets, runs, root)
    numbers = evaluate_adapter(run, neighborhood, fetch(snapshot, version, runs)).numbers
    run.models.self_tests.require_as_recorded(record, f"{version.name}/{version.version}")
    return numbers


def recorded_neighborhood(record: Mapping[str, Any]) -> Neighborhood:
    """The neighbourhood of a record's ``neighbourhood``. With several targets each part has the union's
    neighbours, which is what an evaluation reads. Raises FadeError for a record of an older version."""
    import numpy as np

    from fade.mining.neighborhood import Neighborhood, vectors_of

    fields = ("target", "neighbours", "heldout", "cache_key", "seed", "images_per_concept")
    try:
        whole = Neighborhood(
            **{field: record[field] for field in fields},
            names=tuple(record["names"]),
            means=vectors_of(np.asarray(record["matrix"], dtype=float)),
            left_out=tuple(record["left_out"]),
        )
        targets = list(record["targets"])
    except KeyError as error:
        action = "erase the concept again; its record is of an older version."
        raise FadeError(f"the record's neighbourhood has no {error}.", stage=STAGE, action=action) from None
    if len(targets) == 1:
        return whole
    return replace(whole, joined=tuple(replace(whole, target=target) for target in targets))
