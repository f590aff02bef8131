"""`fade status`, `fade requests`: Prefect's runs beside the registry's requests and champions."""

from __future__ import annotations

from collections import Counter
from typing import Any

from fade.config import Params
from fade.errors import FadeError
from fade.redact import redact
from flows.server.gpu_slot import prefect_client
from tasks.registry.connection import connect
from tasks.registry.lineage import read
from tasks.registry.trust import Trust
from tasks.release.reevaluate import last_result
from tasks.requests.leases import RequestSnapshot
from tasks.requests.project import Project
from tasks.requests.status import last_evaluation, request_statuses, stale_reason

SHOWN_RUNS = 5
"""Of each deployment and kind."""
TAG = "fade"


def registry_status(project: Project, *, with_champions: bool = True) -> dict[str, Any]:
    """``requests``, their ``counts``, and ``champions``, from one read of the registry. Raises
    RequestFileError, RegistryError, PromotionError."""
    params = project.resolve()
    tracking = connect(project.runs, timeout=params.register_.timeout_seconds)
    trust = Trust.of(params.signing, project.root)
    snapshot = RequestSnapshot.load(tracking, params.register_.model_prefix, trust)
    statuses = request_statuses(snapshot, project.requests(params), params, project.resolve)
    rows = [one.to_json() for one in statuses]
    counts = {**Counter(row["state"] for row in rows), "overdue": sum(row["overdue"] for row in rows)}
    champions = (
        [_champion(snapshot, name, params) for name in snapshot.decided_concepts()] if with_champions else []
    )
    champions = [row for row in champions if row]
    return {"requests": rows, "counts": counts, "champions": champions}


def _champion(snapshot: RequestSnapshot, name: str, params: Params) -> dict[str, Any]:
    """The row of a model's champion; empty without one. What cannot be trusted is its ``why``."""
    row: dict[str, Any] = {"model": name, "version": "", "stale": "", "reevaluated": ""}
    try:
        if (version := snapshot.champion(name)) is None:
            return {}
        row |= {"version": str(version.version), "stale": stale_reason(snapshot, version)}
        row["reevaluated"] = str((last_evaluation(snapshot, version) or {}).get("at", ""))
        return {**row, **last_result(snapshot, version, read(snapshot, version), params)}
    except FadeError as error:
        return {**row, "passes": None, "why": str(error)}


def prefect_status() -> dict[str, Any]:
    """Our deployments, each with its last, running and waiting runs. Raises OrchestrationError."""
    from prefect.client.schemas.filters import DeploymentFilter

    ours = DeploymentFilter.model_validate({"tags": {"all_": [TAG]}})
    action = "see whether `fade serve` or your server runs."
    with prefect_client("Prefect does not answer", "status", action) as client:
        deployments = client.read_deployments(deployment_filter=ours)
        rows = [_deployment(client, one) for one in deployments]
        return {"url": redact(str(client.api_url)), "deployments": rows}


def _deployment(client: Any, deployment: Any) -> dict[str, Any]:
    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.client.schemas.objects import StateType
    from prefect.client.schemas.sorting import FlowRunSort

    def runs(sort: FlowRunSort, *types: StateType) -> list[dict[str, Any]]:
        fields = {"deployment_id": {"any_": [deployment.id]}, "state": {"type": {"any_": list(types)}}}
        selected = FlowRunFilter.model_validate(fields)
        return list(map(_run, client.read_flow_runs(flow_run_filter=selected, sort=sort, limit=SHOWN_RUNS)))

    ended = (StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED)
    return {
        "name": deployment.name,
        "flow": client.read_flow(deployment.flow_id).name,
        "crons": [getattr(one.schedule, "cron", "") for one in deployment.schedules if one.active],
        "paused": deployment.paused,
        "served": str(deployment.status.value) if deployment.status else "",
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
        "why": redact(run.state.message or "") if run.state and not run.state.is_completed() else "",
    }
