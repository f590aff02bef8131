"""What runs by the clock: open requests, the re-evaluation of champions, the audit of the registry.

The crons stand in params.yaml (`schedule`) alone: `fade serve` reads them in `deployment_options`, and
`prefect deploy` in `deployment_schedules`, which is a build step of prefect.yaml."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import flow

from fade.config import Params, ScheduleConfig
from fade.errors import ConfigError, RequestError
from flows.audit import ALL, audit
from flows.reevaluate import reevaluate
from flows.server.gpu_slot import gpu_slot
from flows.service.entrypoints import refuse_foreign_deployment
from flows.service.process_requests import process_requests
from flows.service.publish import published
from tasks.requests.project import Project

UNUSED_CRON = "0 0 1 1 *"
"""Of a schedule that is not active: Prefect takes no empty cron."""


@flow(name="re-evaluate", validate_parameters=False)
def reevaluate_champions(
    params_file: str = "params.yaml", runs: str = "runs", overrides: Sequence[str] = (), site: str = ""
) -> list[dict[str, Any]]:
    """Compare every champion's base, judge and data with the current ones; evaluate it where one changed."""
    refuse_foreign_deployment("re-evaluate")
    project = Project(Path(params_file), Path(runs), tuple(overrides))
    params = project.resolve()
    with published(project, site), gpu_slot(params):
        return reevaluate(params, project.runs, project.root)


@flow(name="audit-registry", validate_parameters=False)
def audit_registry(
    params_file: str = "params.yaml", runs: str = "runs", overrides: Sequence[str] = (), site: str = ""
) -> list[dict[str, Any]]:
    """Audit the evidence of every version. Ends as failed when a version did not pass."""
    refuse_foreign_deployment("audit-registry")
    project = Project(Path(params_file), Path(runs), tuple(overrides))
    with published(project, site):
        audits = audit(ALL, project.resolve(), project.runs, evidence_only=True, root=project.root)
    rows = [
        {"version": f"{a['model']}/{a['version']}", "verdict": a["verdict"]["said"], "report": a["report"]}
        for a in audits
    ]
    failed = [row for row, one in zip(rows, audits, strict=True) if not one["good"]]
    if failed:
        listed = " | ".join(f"{row['version']}: {row['verdict']}" for row in failed)
        what = f"{len(failed)} of {len(rows)} version(s) did not pass: {listed}."
        action = "see the reports in the audit folder of the runs folder."
        raise RequestError(what, stage="audit", action=action)
    return rows


FLOWS: dict[str, Any] = {
    "erase": process_requests,
    "nightly": reevaluate_champions,
    "weekly": audit_registry,
}


def crons(schedule: ScheduleConfig) -> dict[str, str]:
    """Deployment -> its cron; empty: never."""
    return dict(zip(FLOWS, (schedule.erase_cron, schedule.reevaluate_cron, schedule.audit_cron), strict=True))


CRON_KEYS = {"erase": "erase_cron", "nightly": "reevaluate_cron", "weekly": "audit_cron"}


def check_crons(schedule: ScheduleConfig) -> None:
    """Raises ConfigError, with the key, for a cron that Prefect refuses or that no day ever fits."""
    from prefect.server.schemas.schedules import CronSchedule
    from prefect.utilities.asyncutils import run_coro_as_sync

    for name, cron in crons(schedule).items():
        try:
            if cron:
                run_coro_as_sync(CronSchedule(cron=cron, timezone=schedule.timezone).get_dates(1))
        except ValueError as error:
            key = f"schedule.{CRON_KEYS[name]}"
            what = f"{key}: Prefect takes no {cron!r}: a field is out of range, or no day fits."
            action = "correct it: minute hour day month weekday."
            raise ConfigError(what, stage="serve", action=action) from error


def deployment_options(project: Project, params: Params, site: str = "") -> dict[str, dict[str, Any]]:
    """Deployment -> how `fade serve` serves its flow (options of ``Runner.add_flow``): one run of each at a
    time; a tick that comes meanwhile is dropped. ``site``: see `flows.service.publish.published`."""
    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
    from prefect.schedules import Cron
    from prefect.types.entrypoint import EntrypointType

    arguments = {
        "params_file": str(project.params_file.resolve()),
        "runs": str(project.runs.resolve()),
        "overrides": list(project.overrides),
        "site": site,
    }
    once = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)
    return {
        name: {
            "schedules": [Cron(cron, timezone=params.schedule.timezone)] if cron else [],
            "parameters": arguments,
            "concurrency_limit": once,
            "entrypoint_type": EntrypointType.MODULE_PATH,
            "tags": ["fade"],
        }
        for name, cron in crons(params.schedule).items()
    }


def deployment_schedules(params_file: str = "params.yaml") -> dict[str, Any]:
    """The build step of prefect.yaml: ``timezone``, and of each deployment ``cron`` and ``active``."""
    schedule = Project(Path(params_file)).resolve().schedule
    check_crons(schedule)
    values = {
        name: {"cron": cron or UNUSED_CRON, "active": bool(cron)} for name, cron in crons(schedule).items()
    }
    return {"timezone": schedule.timezone, **values}
