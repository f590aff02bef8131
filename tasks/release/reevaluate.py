"""Re-evaluation: compare a champion's base, judge and data with the current ones, and evaluate its adapter
where one of them changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.config import Params
from fade.errors import FadeError
from fade.governance.promotion import criteria
from fade.models.loading import PIPELINE_PARTS, directory_sha256, resolve
from fade.run.context import RunContext
from fade.run.resolve_params import parse_params
from tasks.registry.connection import Tracking, registry_errors
from tasks.registry.lineage import Traced, read
from tasks.registry.runs import open_run
from tasks.registry.snapshot import RegistrySnapshot
from tasks.registry.versions import fetch
from tasks.requests.status import REEVALUATED, STALE, critical_checks

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

    from fade.mining.neighborhood import Neighborhood

STAGE = "re-evaluate"
RESULTS = UNCHANGED, EVALUATED, OUTDATED, FAULT = ("unchanged", "reevaluated", "stale", "failed")


@dataclass(frozen=True)
class EvaluationInputs:
    """Hashes of everything that a version is evaluated with."""

    base: str
    judge: str
    data: str

    def changed_since(self, before: EvaluationInputs) -> list[str]:
        """The inputs that differ, each as ``name old -> new``, 12 digits a hash."""
        pairs = {name: (getattr(before, name), getattr(self, name)) for name in ("base", "judge", "data")}
        return [f"{name} {old[:12]} -> {new[:12]}" for name, (old, new) in pairs.items() if old != new]


def current_inputs(params: Params, root: Path, data_md5: str) -> EvaluationInputs:
    """The models that the parameters name, hashed without loading them. Raises BaseModelError when one is
    missing."""
    context = RunContext(params, "", Path("runs"), root)
    base = resolve(context.models.local(params.data.base), stage=STAGE)
    judge = resolve(context.models.local(params.data.judge), stage=STAGE)
    return EvaluationInputs(directory_sha256(base, PIPELINE_PARTS), directory_sha256(judge), data_md5)


def last_inputs(version: ModelVersion, traced: Traced) -> EvaluationInputs:
    """The inputs of the version's last evaluation."""
    record = traced.lineage.content
    recorded = {name: str(record[name]["sha256"]) for name in ("base", "judge")}
    inputs = {**recorded, "data": str(record["data"]["md5"])}
    last = json.loads(version.tags.get(REEVALUATED, "{}"))
    return EvaluationInputs(**inputs | {name: last[name] for name in ("judge", "data") if name in last})


def reevaluate_version(
    tracking: Tracking, version: ModelVersion, params: Params, runs: Path, root: Path, now: EvaluationInputs
) -> dict[str, Any]:
    """Re-evaluate one champion; returns a row with ``result``, ``changed``, ``passes`` and ``why``. Raises
    FadeError.

    Another base: the adapter does not fit, the version is tagged ``stale``, which reopens its request.
    Another judge or data: an MLflow run has the new numbers, the tag ``reevaluated`` what the gate reads."""
    traced = read(tracking, version)
    changed = now.changed_since(last_inputs(version, traced))
    row = {"model": str(version.name), "version": str(version.version), "changed": changed}
    base = next((one for one in changed if one.startswith("base ")), "")
    _tag_stale(tracking, version, f"the {base}" if base else "")
    if base:
        return {**row, "passes": None, "why": f"the {base}", "result": OUTDATED}
    if not changed:
        return {**row, **last_result(version, traced, params), "result": UNCHANGED}
    numbers = evaluate_version(tracking, version, traced, params, runs, root)
    record = {
        "outputs": {key: numbers[key] for key in ("metrics", "base_metrics")},
        "checks": critical_checks(traced.lineage.content),
        "inputs": {"unchanged": True},
    }
    run_id = _log_run(tracking, params.register_.experiment, traced, numbers, changed)
    at = datetime.now(UTC).isoformat(timespec="seconds")
    tag = {"at": at, "judge": now.judge, "data": now.data, "run_id": run_id, "record": record}
    with registry_errors(tracking.address):
        text = json.dumps(tag, allow_nan=False)
        tracking.client.set_model_version_tag(version.name, version.version, REEVALUATED, text)
    return {**row, **_gate_result(record, params), "result": EVALUATED}


def _tag_stale(tracking: Tracking, version: ModelVersion, why: str) -> None:
    """Set the tag ``stale``; an empty ``why`` deletes it."""
    with registry_errors(tracking.address):
        if why:
            tracking.client.set_model_version_tag(version.name, version.version, STALE, why)
        elif STALE in version.tags:
            tracking.client.delete_model_version_tag(version.name, version.version, STALE)


def _log_run(
    tracking: Tracking, experiment: str, traced: Traced, numbers: Mapping[str, Any], changed: list[str]
) -> str:
    """Make an MLflow run with the metrics; returns its id."""
    label = f"{traced.name}/{traced.version}"
    tags = {"target": traced.tags.get("target", ""), "reevaluates": label, "changed": ", ".join(changed)}
    base = {f"base.{name}": value for name, value in numbers["base_metrics"].items()}
    metrics = {name: value for name, value in {**numbers["metrics"], **base}.items() if value is not None}
    with open_run(tracking, experiment, f"re-evaluate {label}", tags) as run:
        run.log_metrics(0, metrics)
    return run.run_id


def last_result(version: ModelVersion, traced: Traced, params: Params) -> dict[str, Any]:
    """``passes`` and ``why`` by the gate, from the version's last evaluation."""
    if REEVALUATED in version.tags:
        return _gate_result(json.loads(version.tags[REEVALUATED])["record"], params)
    return _gate_result(traced.lineage.content, params)


def _gate_result(record: Mapping[str, Any], params: Params) -> dict[str, Any]:
    unmet = [str(one) for one in criteria(record, params.gate) if not one.holds]
    return {"passes": not unmet, "why": "; ".join(unmet)}


def evaluate_version(
    tracking: Tracking, version: ModelVersion, traced: Traced, params: Params, runs: Path, root: Path
) -> dict[str, Any]:
    """Evaluate the version's adapter by the current judge on the current data, with the version's own
    settings and neighbours; returns an evaluation's numbers."""
    from tasks.stages.evaluate import judge

    record = traced.lineage.content
    current = params.model_dump(mode="json", by_alias=True)
    values = {**current, **record["params"]["values"], "data": current["data"]}
    neighborhood = recorded_neighborhood(record["neighbourhood"])
    settings = parse_params(values, f"the record of {version.name}/{version.version}")
    run = RunContext(settings, neighborhood.targets, runs, root)
    snapshot = RegistrySnapshot.load_model(tracking, str(version.name))
    return judge(run, neighborhood, fetch(snapshot, version, runs)).numbers


def recorded_neighborhood(record: Mapping[str, Any]) -> Neighborhood:
    """The neighbourhood of a record's ``neighbourhood``. With several targets each part has the union's
    neighbours, which is what an evaluation reads. Raises FadeError for a record of an older version."""
    import numpy as np

    from fade.mining.neighborhood import Neighborhood

    try:
        whole = Neighborhood(
            target=record["target"],
            neighbours=list(record["neighbours"]),
            heldout=list(record["heldout"]),
            names=tuple(record["names"]),
            matrix=np.asarray(record["matrix"]),
            cache_key=record["cache_key"],
            seed=record["seed"],
            images_per_concept=record["images_per_concept"],
            left_out=tuple(record["left_out"]),
        )
        targets = list(record["targets"])
    except KeyError as error:
        action = "erase the concept again; its record is of an older version."
        raise FadeError(f"the record's neighbourhood has no {error}.", stage=STAGE, action=action) from None
    if len(targets) == 1:
        return whole
    return replace(whole, joined=tuple(replace(whole, target=target) for target in targets))
