"""The one place where a person sees what ran, what waits, what failed and why: Prefect's runs beside the
registry's requests."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from fade.config import Params
from fade.errors import FadeError, OrchestrationError
from flows.service.process_requests import Where
from tasks.registry.connection import Tracking, connect
from tasks.registry.lineage import read
from tasks.release.reevaluate import champions, verdict
from tasks.requests.status import REEVALUATED, STALE, states

LAST = 5
"""Runs of each deployment that are shown."""
TAG = "fade"


def registry_status(where: Where) -> dict[str, Any]:
    """Requests, their counts, and champions. Raises LedgerError, RegistryError."""
    params = where.resolve()
    tracking = connect(where.runs, timeout=params.register_.timeout_seconds)
    found = [one.to_json() for one in states(tracking, where.ledger(params), params, where.resolve)]
    counts = dict(Counter(one["state"] for one in found)) | {"overdue": sum(one["overdue"] for one in found)}
    return {
        "requests": found,
        "counts": counts,
        "champions": [
            _champion(tracking, one, params) for one in champions(tracking, params.register_.model_prefix)
        ],
    }


def _champion(tracking: Tracking, version: Any, params: Params) -> dict[str, Any]:
    row = {"model": str(version.name), "version": str(version.version), "stale": version.tags.get(STALE, "")}
    row["reevaluated"] = json.loads(version.tags[REEVALUATED])["at"] if REEVALUATED in version.tags else ""
    try:
        return {**row, **verdict(version, read(tracking, version), params)}
    except FadeError as error:
        return {**row, "passes": None, "why": str(error)}


def prefect_status() -> dict[str, Any]:
    """Every deployment of ours with its runs: the last ones, those that run, those that wait. Raises
    OrchestrationError."""
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
    from prefect.exceptions import PrefectException

    try:
        with get_client(sync_client=True) as client:
            ours = client.read_deployments(
                deployment_filter=DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG]))
            )
            return {"url": str(client.api_url), "deployments": [_deployment(client, one) for one in ours]}
    except (httpx.HTTPError, PrefectException) as error:
        what = f"Prefect does not answer: {error}."
        raise OrchestrationError(
            what, stage="status", action="see whether `fade serve` or your server runs."
        ) from error


def _deployment(client: Any, one: Any) -> dict[str, Any]:
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterDeploymentId,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType
    from prefect.client.schemas.sorting import FlowRunSort

    def runs(sort: FlowRunSort, *types: StateType) -> list[dict[str, Any]]:
        which = FlowRunFilter(
            deployment_id=FlowRunFilterDeploymentId(any_=[one.id]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(types))),
        )
        return [_run(run) for run in client.read_flow_runs(flow_run_filter=which, sort=sort, limit=LAST)]

    ended = (StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED)
    return {
        "name": one.name,
        "flow": client.read_flow(one.flow_id).name,
        "crons": [getattr(s.schedule, "cron", "") for s in one.schedules if s.active],
        "paused": one.paused,
        "served": str(one.status.value) if one.status else "",
        "last": runs(FlowRunSort.END_TIME_DESC, *ended),
        "running": runs(FlowRunSort.START_TIME_DESC, StateType.RUNNING, StateType.PENDING),
        "waiting": runs(FlowRunSort.EXPECTED_START_TIME_ASC, StateType.SCHEDULED, StateType.PAUSED),
    }


def _run(run: Any) -> dict[str, Any]:
    when = run.end_time or run.start_time or run.expected_start_time
    return {
        "name": run.name,
        "id": str(run.id),
        "state": run.state.name if run.state else "",
        "at": when.isoformat(timespec="seconds") if when else "",
        "why": (run.state.message or "") if run.state and not run.state.is_completed() else "",
    }
