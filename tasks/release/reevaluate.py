"""Champions held against today's base, judge and data: what changed since they were registered, and what that
makes of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.config import Params, parse_params
from fade.errors import FadeError
from fade.governance.promotion import criteria
from fade.models.loading import PIPELINE_PARTS, directory_sha256, resolve
from fade.run.context import RunContext
from tasks.registry.connection import Tracking, registry_errors
from tasks.registry.lineage import Traced, read
from tasks.registry.runs import open_run
from tasks.registry.snapshot import RegistrySnapshot
from tasks.registry.versions import fetch
from tasks.requests.status import REEVALUATED, STALE

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

    from fade.mining.neighborhood import Neighborhood

STAGE = "re-evaluate"
UNCHANGED, AGAIN, OUTDATED, BROKEN = "unchanged", "reevaluated", "stale", "failed"


@dataclass(frozen=True)
class Inputs:
    """What a version is judged with."""

    base: str
    judge: str
    data: str

    def changed(self, before: Inputs) -> list[str]:
        """Names of what is not the same as before, each with both hashes."""
        pairs = {name: (getattr(before, name), getattr(self, name)) for name in ("base", "judge", "data")}
        return [f"{name} {old[:12]} -> {new[:12]}" for name, (old, new) in pairs.items() if old != new]


def inputs_now(params: Params, root: Path, data_md5: str) -> Inputs:
    """Hashes of today's models, without loading them. Raises BaseModelError when one is missing."""
    context = RunContext(params, "", Path("runs"), root)
    base, judge = (
        resolve(context.local(where), stage=STAGE) for where in (params.data.base, params.data.judge)
    )
    return Inputs(directory_sha256(base, PIPELINE_PARTS), directory_sha256(judge), data_md5)


def inputs_then(version: ModelVersion, traced: Traced) -> Inputs:
    """What the version was last judged with."""
    content = traced.lineage.content
    first = Inputs(
        str(content["base"]["sha256"]), str(content["judge"]["sha256"]), str(content["data"]["md5"])
    )
    again = json.loads(version.tags[REEVALUATED]) if REEVALUATED in version.tags else {}
    return Inputs(first.base, again.get("judge", first.judge), again.get("data", first.data))


def champions(tracking: Tracking, prefix: str) -> list[ModelVersion]:
    """The champion of every concept, as the decisions say. Raises PromotionError for a broken chain,
    RegistryError."""
    return RegistrySnapshot.load(tracking, prefix).champions()


def hold(
    tracking: Tracking, version: ModelVersion, params: Params, runs: Path, root: Path, now: Inputs
) -> dict[str, Any]:
    """Compare one champion with today's inputs and do what follows; a row for people. Raises FadeError.

    Another base: the adapter does not fit, the version is tagged ``stale``, which reopens its request.
    Another judge or data: it is judged again with its own settings, an MLflow run holds the numbers, and the
    tag ``reevaluated`` what the gate asks about."""
    traced = read(tracking, version)
    changed = now.changed(inputs_then(version, traced))
    row = {
        "model": str(version.name),
        "version": str(version.version),
        "changed": changed,
        "passes": None,
        "why": "",
    }
    based = [one for one in changed if one.startswith("base ")]
    with registry_errors(tracking.address):
        if based:
            why = f"the {based[0]}"
            tracking.client.set_model_version_tag(version.name, version.version, STALE, why)
            return {**row, "result": OUTDATED, "why": why}
        if STALE in version.tags:  # the base is back
            tracking.client.delete_model_version_tag(version.name, version.version, STALE)
    if not changed:
        return {**row, "result": UNCHANGED, **verdict(version, traced, params)}
    numbers = judge_again(tracking, version, traced, params, runs, root)
    record = {
        "outputs": {key: numbers[key] for key in ("metrics", "base_metrics")},
        "checks": {},
        "inputs": {"unchanged": True},
    }
    record["checks"] = {
        s: [one for one in some if one["severity"] == "critical"]
        for s, some in traced.lineage.content["checks"].items()
    }
    tags = {
        "target": traced.tags.get("target", ""),
        "reevaluates": f"{version.name}/{version.version}",
        "changed": ", ".join(changed),
    }
    with open_run(
        tracking, params.register_.experiment, f"re-evaluate {version.name}/{version.version}", tags
    ) as run:
        measured = {k: v for k, v in numbers["metrics"].items() if v is not None}
        run.log_metrics(
            0, {**measured, **{f"base.{k}": v for k, v in numbers["base_metrics"].items() if v is not None}}
        )
    said = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "judge": now.judge,
        "data": now.data,
        "run_id": run.run_id,
        "record": record,
    }
    with registry_errors(tracking.address):
        tracking.client.set_model_version_tag(
            version.name, version.version, REEVALUATED, json.dumps(said, allow_nan=False)
        )
    return {**row, "result": AGAIN, **_passes(record, params)}


def verdict(version: ModelVersion, traced: Traced, params: Params) -> dict[str, Any]:
    """``passes`` and ``why`` by the gate, from the last evaluation."""
    again = (
        json.loads(version.tags[REEVALUATED])["record"]
        if REEVALUATED in version.tags
        else traced.lineage.content
    )
    return _passes(again, params)


def judge_again(
    tracking: Tracking, version: ModelVersion, traced: Traced, params: Params, runs: Path, root: Path
) -> dict[str, Any]:
    """The evaluation of the version's adapter by today's judge on today's data, with the version's own
    settings and neighbours."""
    from tasks.stages.evaluate import judge

    content = traced.lineage.content
    today = params.model_dump(mode="json", by_alias=True)
    values = {**today, **content["params"]["values"], "data": today["data"]}
    neighborhood = neighbourhood(content["neighbourhood"])
    context = RunContext(
        parse_params(values, f"the record of {version.name}/{version.version}"),
        neighborhood.targets,
        runs,
        root,
    )
    return judge(
        context, neighborhood, fetch(RegistrySnapshot.load_model(tracking, str(version.name)), version, runs)
    ).numbers


def neighbourhood(said: Mapping[str, Any]) -> Neighborhood:
    """A record's neighbourhood; of several targets all parts have the union's neighbours, which is all that
    is judged."""
    import numpy as np

    from fade.mining.neighborhood import Neighborhood

    try:
        whole = Neighborhood(
            target=said["target"],
            neighbours=list(said["neighbours"]),
            heldout=list(said["heldout"]),
            names=tuple(said["names"]),
            matrix=np.asarray(said["matrix"]),
            cache_key=said["cache_key"],
            seed=said["seed"],
            images_per_concept=said["images_per_concept"],
            left_out=tuple(said["left_out"]),
        )
        targets = list(said["targets"])
    except KeyError as error:
        what = f"the record's neighbourhood has no {error}."
        raise FadeError(
            what, stage=STAGE, action="erase the concept again; its record is of an older version."
        ) from None
    if len(targets) == 1:
        return whole
    from dataclasses import replace

    return replace(whole, joined=tuple(replace(whole, target=target) for target in targets))


def _passes(record: Mapping[str, Any], params: Params) -> dict[str, Any]:
    short = [str(one) for one in criteria(record, params.gate) if not one.holds]
    return {"passes": not short, "why": "; ".join(short)}
