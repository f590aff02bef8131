"""What `fade serve` runs by the clock: open requests worked off, champions held against today's inputs, the
registry audited."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import flow

from fade.config import Params
from fade.errors import RequestError
from flows.audit import ALL, audit
from flows.erase import erase
from flows.reevaluate import reevaluate
from flows.server.gpu_slot import gpu_slot
from flows.service.process_requests import DONE, WAITING, Outcome, Where, Worker, work_off
from flows.train import train

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment


@flow(name="work-off", validate_parameters=False)
def work_off_requests(
    params_file: str = "params.yaml",
    runs: str = "runs",
    overrides: Sequence[str] = (),
    only: Sequence[str] = (),
) -> dict[str, Any]:
    """Erase the open requests one after the other. Ends as failed, with the reasons, when a request did."""
    where = Where(Path(params_file), Path(runs), tuple(overrides))
    settings = where.resolve()
    worker = Worker(where, erase, lambda: gpu_slot(settings), tell=emit, only=tuple(only))
    try:
        told = work_off(worker)
    except RequestError as error:
        show(getattr(error, "told", {}))
        raise
    show(told)
    return told


@flow(name="re-evaluate", validate_parameters=False)
def reevaluate_champions(
    params_file: str = "params.yaml", runs: str = "runs", overrides: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Hold every champion against today's base, judge and data; judge it again where one of them changed."""
    where = Where(Path(params_file), Path(runs), tuple(overrides))
    settings = where.resolve()
    with gpu_slot(settings):
        return reevaluate(settings, where.runs, where.root)


@flow(name="audit-registry", validate_parameters=False)
def audit_registry(
    params_file: str = "params.yaml", runs: str = "runs", overrides: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """The weekly audit of all evidence. Ends as failed when a version did not pass."""
    where = Where(Path(params_file), Path(runs), tuple(overrides))
    found = audit(ALL, where.resolve(), where.runs, evidence_only=True, root=where.root)
    if bad := [
        f"{one['model']}/{one['version']}: {one['verdict']['said']}" for one in found if not one["good"]
    ]:
        what = f"{len(bad)} of {len(found)} version(s) did not pass: {' | '.join(bad)}."
        raise RequestError(
            what, stage="audit", action="see the reports in the audit folder of the runs folder."
        )
    return [
        {
            "version": f"{one['model']}/{one['version']}",
            "verdict": one["verdict"]["said"],
            "report": one["report"],
        }
        for one in found
    ]


def deployments(where: Where, params: Params) -> list[RunnerDeployment]:
    """What is served: a deployment for each flow that has a cron. One run of each at a time; a tick that
    comes early is dropped."""
    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
    from prefect.schedules import Cron
    from prefect.types.entrypoint import EntrypointType

    schedule = params.schedule
    jobs: list[tuple[Any, str, str]] = [
        (work_off_requests, "erase", schedule.erase_cron),
        (reevaluate_champions, "nightly", schedule.reevaluate_cron),
        (audit_registry, "weekly", schedule.audit_cron),
    ]
    arguments = {
        "params_file": str(where.params_file.resolve()),
        "runs": str(where.runs.resolve()),
        "overrides": list(where.overrides),
    }
    one = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)
    return [
        job.to_deployment(
            name,
            schedules=[Cron(cron, timezone=schedule.timezone)] if cron else [],
            parameters=arguments,
            concurrency_limit=one,
            entrypoint_type=EntrypointType.MODULE_PATH,
            tags=["fade"],
        )
        for job, name, cron in jobs
    ]


def emit(outcome: Outcome) -> None:
    """Tell Prefect's automations of a request's end: ``fade.request.done``, ``.failed`` (or short of its
    thresholds) or ``.waiting``."""
    from prefect.events import emit_event

    kind = outcome.result if outcome.result in (DONE, WAITING) else "failed"
    resource = {
        "prefect.resource.id": f"fade.request.{outcome.id}",
        "prefect.resource.name": outcome.id,
        "fade.concept": outcome.concept,
    }
    emit_event(f"fade.request.{kind}", resource=resource, payload=outcome.to_json())


def show(told: Mapping[str, Any]) -> None:
    """A table of requests and outcomes as an artifact of the flow run."""
    from prefect.artifacts import create_table_artifact

    results = {one["id"]: one for one in told.get("outcomes", [])}
    rows = [
        {
            "request": one["id"],
            "concept": one["concept"],
            "state": one["state"] + (", overdue" if one["overdue"] else ""),
            "why": one["detail"],
            "this time": results.get(one["id"], {}).get("result", ""),
            "due": one["due"],
        }
        for one in told.get("requests", [])
    ]
    failed = sum(one["state"] in ("failed", "missing", "faulty") for one in told.get("requests", []))
    create_table_artifact(
        rows,
        key="fade-requests",
        description=f"{len(results)} worked off, {failed} of {len(rows)} need somebody",
    )


__all__ = [
    "audit_registry",
    "deployments",
    "emit",
    "reevaluate_champions",
    "show",
    "train",
    "work_off_requests",
]
