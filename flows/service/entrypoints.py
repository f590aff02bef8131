"""Which code a deployment may run: the flows of this checkout, whatever the server's record says by now.

Whoever has the server's login can change a deployment's entrypoint and pull steps. `fade serve` runs the
flows that it has imported and never reads those fields; a run of a deployment that was changed is refused,
so that the change is seen."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from fade.errors import OrchestrationError

ENTRYPOINTS = {
    "work-off": "flows/service/process_requests.py:process_requests",
    "re-evaluate": "flows/service/schedule.py:reevaluate_champions",
    "audit-registry": "flows/service/schedule.py:audit_registry",
    "run-job": "flows/run_job.py:run_job",
}
"""Flow -> its entrypoint below the checkout: all that a deployment of ours can run."""
CHECKOUT = Path(__file__).resolve().parents[2]
SET_FOLDER = "prefect.deployments.steps.set_working_directory"
STAGE = "serve"
_LOG = logging.getLogger("prefect.flow_runs.fade")


def refuse_foreign_deployment(flow: str) -> None:
    """Raises OrchestrationError when this flow run's deployment names other code than ``flow`` of this
    checkout; nothing for a flow that was called by hand."""
    from prefect.runtime import deployment, flow_run

    if not deployment.id:
        return
    from flows.server.gpu_slot import prefect_client

    with prefect_client("the deployment of this run cannot be read", STAGE) as client:
        record = client.read_deployment(deployment.id)
    problem = foreign(flow, record.entrypoint, record.pull_steps)
    if problem:
        what = f"the deployment {flow}/{record.name} was changed: {problem}. Nothing was run."
        action = "find out who changed it; `fade serve` or `prefect deploy --all` writes it anew."
        error = OrchestrationError(what, stage=STAGE, action=action)
        _LOG.error("run %s refused: %s", flow_run.name, error)
        raise error


def foreign(flow: str, entrypoint: str | None, pull_steps: list[dict[str, Any]] | None) -> str:
    """What of a deployment's record is not ``flow`` of this checkout; empty when nothing is."""
    expected = ENTRYPOINTS.get(flow)
    if expected is None:
        return f"the flow {flow!r} is none of this project's"
    if entrypoint not in (expected, module_path(expected)):
        return f"its entrypoint is {entrypoint!r}, not {expected!r}"
    for step in pull_steps or []:
        folder = step.get(SET_FOLDER, {}).get("directory") if set(step) == {SET_FOLDER} else None
        if not isinstance(folder, str) or Path(folder).resolve() not in own_folders():
            return f"its pull step {step!r} leads neither to this checkout nor to FADE_HOME"
    return ""


def own_folders() -> set[Path]:
    """Where a deployment may run: this checkout, or the project's folder on this machine (FADE_HOME)."""
    return {CHECKOUT, Path(os.environ.get("FADE_HOME") or CHECKOUT).resolve()}


def module_path(entrypoint: str) -> str:
    """``flows/run_job.py:run_job`` as ``flows.run_job.run_job``, the form of `fade serve`."""
    file, _, function = entrypoint.partition(":")
    return f"{file.removesuffix('.py').replace('/', '.')}.{function}"
