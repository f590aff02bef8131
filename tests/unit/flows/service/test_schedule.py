"""params.yaml is the one source of the crons, for `fade serve` and for `prefect deploy` with prefect.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.utilities.importtools import import_object
from prefect.utilities.templating import apply_values

from flows.service.schedule import UNUSED_CRON, audit_registry, deployments, reevaluate_champions
from tasks.requests.project import Project

DEPLOYMENTS = ("erase", "nightly", "weekly")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """With crons of its own, one of them empty."""
    schedule = {"erase_cron": "7 1 * * *", "reevaluate_cron": "", "timezone": "Europe/Berlin"}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"schedule": schedule}))
    return Project(tmp_path / "params.yaml", tmp_path / "runs")


def deployed(repo: Path, params_file: Path) -> dict[str, Any]:
    """Deployment -> its schedules, as `prefect deploy` fills in prefect.yaml with that params.yaml."""
    text = yaml.safe_load((repo / "prefect.yaml").read_text())
    out = {}
    for one in text["deployments"]:
        values = {}
        for step in one.get("build", []):
            ((name, arguments),) = step.items()
            values[arguments["id"]] = import_object(name)(params_file=str(params_file))
        out[one["name"]] = apply_values(one["schedules"], values)
    return out


def test_prefect_yaml_takes_every_cron_from_params_yaml(project: Project, repo: Path) -> None:
    found = deployed(repo, project.params_file)
    zone = "Europe/Berlin"
    assert found == {
        "erase": [{"cron": "7 1 * * *", "active": True, "timezone": zone}],
        "nightly": [{"cron": UNUSED_CRON, "active": False, "timezone": zone}],  # an empty cron is never
        "weekly": [{"cron": project.resolve().schedule.audit_cron, "active": True, "timezone": zone}],
        "gpu": [],
    }


def test_fade_serve_takes_every_cron_from_params_yaml(project: Project) -> None:
    params = project.resolve()
    served = {str(one.name): one.schedules or [] for one in deployments(project, params)}
    crons = {name: [one.schedule.cron for one in some] for name, some in served.items()}
    assert crons == {"erase": ["7 1 * * *"], "nightly": [], "weekly": [params.schedule.audit_cron]}


def test_prefect_yaml_deploys_the_flows_that_fade_serve_serves(project: Project, repo: Path) -> None:
    text = yaml.safe_load((repo / "prefect.yaml").read_text())
    files = {one["name"]: one["entrypoint"] for one in text["deployments"]}
    served = {str(one.name): str(one.entrypoint) for one in deployments(project, project.resolve())}
    for name in DEPLOYMENTS:
        path, _, function = files[name].partition(":")
        assert f"{path.removesuffix('.py').replace('/', '.')}.{function}" == served[name]
    assert {audit_registry.name, reevaluate_champions.name} == {"audit-registry", "re-evaluate"}
    assert (
        files["gpu"] == "flows/run_job.py:run_job" and text["deployments"][-1]["work_pool"]["name"] == "gpu"
    )
