"""The scheduled flow that processes the open requests, its artifact and its events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from prefect import flow

from fade.errors import RequestError
from fade.governance.leases import DONE
from fade.redact import redact
from flows.erase import erase
from flows.server.gpu_slot import gpu_slot
from flows.service.entrypoints import refuse_foreign_deployment
from flows.service.publish import published
from tasks.requests import worker
from tasks.requests.project import Project
from tasks.requests.status import FAULTY, FELL_SHORT, MISSING
from tasks.requests.worker import WAITING, Outcome, Worker


@flow(name="work-off", validate_parameters=False)
def process_requests(
    params_file: str = "params.yaml",
    runs: str = "runs",
    overrides: Sequence[str] = (),
    only: Sequence[str] = (),
    site: str = "",
) -> dict[str, Any]:
    """Erase the open requests one after the other. Ends as failed, with the reasons, when a request did."""
    refuse_foreign_deployment("work-off")
    project = Project(Path(params_file), Path(runs), tuple(overrides))
    slot = partial(gpu_slot, project.resolve())
    try:
        with published(project, site):
            result = worker.process_requests(Worker(project, erase, slot, on_outcome=emit, only=tuple(only)))
    except RequestError as error:
        show(error.result if isinstance(error.result, dict) else {})
        raise
    show(result)
    return result


def emit(outcome: Outcome) -> None:
    """Emit Prefect's event of a request's end: ``fade.request.done``, ``.failed`` (or short of its
    thresholds) or ``.waiting``."""
    from prefect.events import emit_event

    kind = outcome.result if outcome.result in (DONE, WAITING) else "failed"
    names = {"prefect.resource.id": f"fade.request.{outcome.id}", "prefect.resource.name": outcome.id}
    resource = {**names, "fade.concept": outcome.concept}
    emit_event(
        f"fade.request.{kind}", resource=resource, payload={**outcome.to_json(), "text": redact(outcome.text)}
    )


def show(result: Mapping[str, Any]) -> None:
    """Make the artifact ``fade-requests`` of the flow run: a table of all requests, with their outcomes."""
    from prefect.artifacts import create_table_artifact

    requests = result.get("requests", [])
    outcomes = {one["id"]: one["result"] for one in result.get("outcomes", [])}
    rows = [
        {
            "request": one["id"],
            "concept": one["concept"],
            "state": one["state"] + (", overdue" if one["overdue"] else ""),
            "why": redact(one["detail"]),
            "this time": outcomes.get(one["id"], ""),
            "due": one["due"],
        }
        for one in requests
    ]
    failed = sum(one["state"] in (FELL_SHORT, MISSING, FAULTY) for one in requests)
    description = f"{len(outcomes)} worked off, {failed} of {len(rows)} need somebody"
    create_table_artifact(rows, key="fade-requests", description=description)
