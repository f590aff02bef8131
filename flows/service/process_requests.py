"""The scheduled flow that processes the open requests, its artifact and its events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from prefect import flow

from fade.errors import RequestError
from fade.governance.leases import DONE
from fade.governance.release_plan import STAGE
from fade.redact import redact
from flows.erase import erase
from flows.release import release_within_gate
from flows.server.gpu_slot import gpu_slot
from flows.service.entrypoints import refuse_foreign_deployment
from flows.service.publish import published
from tasks.release.release_decision import ReleaseOptions
from tasks.release.release_due import why_no_release
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
    """Erase the open requests one after the other; then, with `schedule.release=champions`, make a release
    of these. Ends as failed, with the reasons, when a request did, or no release passed its gate."""
    refuse_foreign_deployment("work-off")
    project = Project(Path(params_file), Path(runs), tuple(overrides))
    params = project.resolve()
    one = Worker(project, erase, partial(gpu_slot, params), on_outcome=emit, only=tuple(only))
    try:
        with published(project, site):
            result = worker.process_requests(one)
            if params.schedule.release == "champions" and not only:
                result |= release_champions(one)
    except RequestError as error:
        show(error.result if isinstance(error.result, dict) else {})
        raise
    show(result)
    return result


def release_champions(one: Worker) -> dict[str, Any]:
    """Make the release that follows the requests, where one is due: ``releases``, in order, or
    ``no_release``, why there is none; and ``requests``, all statuses after it. Raises RequestError, with all
    of that and the outcomes as ``result``, when one was made and none passed."""
    project = one.project
    params = project.resolve()
    file = str(project.params_file)
    options = ReleaseOptions(params, project.runs, project.root, project.overrides, file, by=one.by)
    statuses = one.statuses()
    if why := why_no_release(one.tracking, options, statuses):
        return {"releases": [], "no_release": why}
    with one.slot():
        releases = release_within_gate(options)
    requests = [status.to_json() for status in one.statuses()]
    result = {"releases": releases, "no_release": "", "requests": requests}
    last = releases[-1]
    if any(release["made"] for release in releases) and not last["current"]:
        first = f"`{last['next']}`, or erase" if last["next"] else "erase"
        action = f"{first} and promote again, or give `fade release` an --override."
        error = RequestError(last["refused"], stage=STAGE, action=action)
        error.result = {"outcomes": [outcome.to_json() for outcome in one.outcomes], **result}
        raise error
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
    for one in result.get("releases", []):
        description += f"; {one['name']}/{one['version']}: {one['refused'] or 'current'}"
    create_table_artifact(rows, key="fade-requests", description=redact(description))
