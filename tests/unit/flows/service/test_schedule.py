"""params.yaml is the one source of the crons, for `fade serve` and for `prefect deploy` with prefect.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.utilities.importtools import import_object
from prefect.utilities.templating import apply_values

from fade.config import ScheduleConfig
from fade.errors import ConfigError
from flows.run_job import run_job
from flows.service.entrypoints import CHECKOUT, ENTRYPOINTS, SET_FOLDER, foreign, module_path
from flows.service.schedule import (
    FLOWS,
    UNUSED_CRON,
    audit_registry,
    check_crons,
    deployment_options,
    reevaluate_champions,
)
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
    served = deployment_options(project, params)
    crons = {name: [one.cron for one in options["schedules"]] for name, options in served.items()}
    assert crons == {"erase": ["7 1 * * *"], "nightly": [], "weekly": [params.schedule.audit_cron]}


def test_prefect_yaml_deploys_the_flows_that_fade_serve_serves(project: Project, repo: Path) -> None:
    text = yaml.safe_load((repo / "prefect.yaml").read_text())
    files = {one["name"]: one["entrypoint"] for one in text["deployments"]}
    assert set(deployment_options(project, project.resolve())) == set(DEPLOYMENTS) == set(FLOWS)
    for name in DEPLOYMENTS:
        assert files[name] == ENTRYPOINTS[FLOWS[name].name]
    assert {audit_registry.name, reevaluate_champions.name} == {"audit-registry", "re-evaluate"}
    assert (
        files["gpu"] == "flows/run_job.py:run_job" and text["deployments"][-1]["work_pool"]["name"] == "gpu"
    )


def test_the_one_list_of_entrypoints_names_our_flows() -> None:
    for flow in (*FLOWS.values(), run_job):
        assert import_object(module_path(ENTRYPOINTS[flow.name])).name == flow.name
    assert len(ENTRYPOINTS) == len(FLOWS) + 1


def test_a_deployment_of_this_checkout_is_ours_in_both_forms() -> None:
    for flow, entrypoint in ENTRYPOINTS.items():
        assert foreign(flow, entrypoint, [{SET_FOLDER: {"directory": str(CHECKOUT)}}]) == ""
        assert foreign(flow, module_path(entrypoint), None) == ""


def test_the_projects_folder_on_a_machine_is_ours_and_one_that_only_links_to_the_code_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "flows").symlink_to(CHECKOUT / "flows")
    steps = [{SET_FOLDER: {"directory": str(tmp_path)}}]
    monkeypatch.delenv("FADE_HOME", raising=False)
    assert "nor to FADE_HOME" in foreign("run-job", ENTRYPOINTS["run-job"], steps)
    monkeypatch.setenv("FADE_HOME", str(tmp_path))
    assert foreign("run-job", ENTRYPOINTS["run-job"], steps) == ""


@pytest.mark.parametrize(
    ("flow", "entrypoint", "steps"),
    [
        ("work-off", "/home/mallory/flow.py:process_requests", None),
        ("work-off", "flows/run_job.py:run_job", None),
        ("work-off", None, None),
        ("elsewhere", "flows/run_job.py:run_job", None),
        ("run-job", ENTRYPOINTS["run-job"], [{SET_FOLDER: {"directory": "/home/mallory"}}]),
        (
            "run-job",
            ENTRYPOINTS["run-job"],
            [{"prefect.deployments.steps.run_shell_script": {"script": "id"}}],
        ),
        ("run-job", ENTRYPOINTS["run-job"], [{SET_FOLDER: {"directory": str(CHECKOUT)}, "other": {}}]),
    ],
)
def test_a_deployment_of_other_code_is_named(flow: str, entrypoint: str | None, steps: Any) -> None:
    assert foreign(flow, entrypoint, steps)


@pytest.mark.parametrize("key", ["erase_cron", "reevaluate_cron", "audit_cron"])
@pytest.mark.parametrize("cron", ["99 99 99 99 99", "0 0 31 2 *", "H * * * *", "0 3 * * 8"])
def test_a_cron_that_prefect_does_not_take_is_refused_by_its_key(key: str, cron: str) -> None:
    with pytest.raises(ConfigError, match=rf"schedule\.{key}: .*Next: correct it"):
        check_crons(ScheduleConfig(**{key: cron}))


def test_usual_crons_pass() -> None:
    check_crons(ScheduleConfig())
    check_crons(ScheduleConfig(erase_cron="0 0 L * *", reevaluate_cron="", audit_cron="0 3 * * MON#2"))
