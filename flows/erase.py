"""The main job: pull -> validate -> mine -> validate mined -> train -> evaluate -> register.

Every stage keeps what it made under the runs folder by content, so a flow that failed continues at the stage
that failed."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefect import flow, runtime

from fade.errors import RegistryError
from fade.run.context import RunContext
from fade.run.resolve_params import parse_params
from fade.utils import progress
from fade.utils.clock import Clock
from fade.utils.files import write_json
from tasks.data.pull import pull_task
from tasks.registry.connection import connect
from tasks.registry.register import register_task
from tasks.registry.trust import Trust
from tasks.requests.leases import Lease, confirm
from tasks.stages.evaluate import EvaluationResult, evaluate_task
from tasks.stages.lineage import RunRecord
from tasks.stages.mine import check_mined_task, mine_task
from tasks.stages.report import make_report
from tasks.stages.train import Trained, train_task
from tasks.stages.validate import keep_checks, validate_run

SUMMARY = (
    *("target", "targets", "method", "variant", "seed", "neighbours", "heldout", "metrics", "base_metrics"),
    *("intervals", "base_intervals", "n", "confusion", "spatial_consistency", "null_drift"),
    *("second_opinion", "realism", "other_prompts"),
)
"""Of the evaluation's numbers, those that ``fade run --json`` prints."""


@flow(name="erase", validate_parameters=False)
def erase(
    target: str | Sequence[str],
    params: dict[str, Any],
    runs: str = "runs",
    root: str = ".",
    overrides: Sequence[str] = (),
    params_file: str = "params.yaml",
    request: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Erase a concept (or several together) and prove that the neighbours survived. Returns the summary that
    ``fade run --json`` prints.

    request: ``about`` (id, reason, by: for the record and the card), ``marks``, tags of the version, and
    ``lease``, without which nothing is registered (see `tasks.requests.worker`)."""
    run = RunContext(parse_params(params), target, Path(runs), Path(root))
    request, clock = request or {}, Clock()
    with run.lock_target():
        with clock.stage("pull"):
            data = pull_task(run.params.data, run.root, run.runs)
        with clock.stage("validate"):
            checked = validate_run(run)
            record = RunRecord(run, data, overrides, str(runtime.flow_run.id or ""))
        with clock.stage("mine"):
            neighborhood, features = mine_task(run), run.models.encoder.seconds
            mined = check_mined_task(run, neighborhood)
            keep_checks(run)
        with clock.stage("train"):
            trained = train_task(run, neighborhood, record.origin)
        with clock.stage("evaluate"):
            evaluation = evaluate_task(run, neighborhood, trained.adapter)
            checks = {"data": checked.results, "neighbourhood": mined.results}
            lineage = record.close(neighborhood, trained, evaluation, checks, request.get("about"))
        with clock.stage("register"):
            command, tables = reproduce(run.targets, overrides, params_file), (checked, mined)
            made = (
                neighborhood,
                evaluation,
                trained.history,
                tables,
                lineage.content,
                clock.seconds,
                command,
            )
            report = make_report(run, *made)
            version = register(run, evaluation, lineage.content, request)
    report.name(version, clock.seconds)
    summary = {
        **summarise(run, evaluation, trained, data.md5, report.path),
        "warnings": [row["name"] for table in tables for row in table.results if not row["success"]]
        + [f"{name}: a target, hence no neighbour" for name in neighborhood.left_out],
        **version,
        "seconds": clock.total(),
        "computing_seconds": computing_seconds(run, features, trained, evaluation),
    }
    write_json(run.folder / "result.json", summary)
    return summary


def register(
    run: RunContext, evaluation: EvaluationResult, lineage: Mapping[str, Any], request: Mapping[str, Any]
) -> dict[str, Any]:
    """Register; ``model_name`` and ``model_version``. When the registry is out of reach the adapter stays and
    the message names the command that registers it later.

    Raises RequestError, and registers nothing, when the request that the run is for was taken over by another
    worker."""
    progress.report("register", 0, 1, "MLflow")
    where: dict[str, Any] = {"runs": run.runs, "root": run.root, "marks": request.get("marks")}
    try:
        if lease := request.get("lease"):
            tracking = connect(run.runs, timeout=run.params.register_.timeout_seconds)
            confirm(tracking, Lease(**lease), Trust.of(run.params.signing, run.root))
        version = register_task(evaluation.numbers, run.params, lineage, run.folder, **where)
    except RegistryError as error:
        if not error.action:
            error.action = f"the adapter is kept; register it later with `fade register {run.folder}`."
        raise
    finally:
        progress.report("register", 1, 1, "MLflow")
    return {"model_name": version.name, "model_version": version.version}


def summarise(
    run: RunContext, evaluation: EvaluationResult, trained: Trained, data_md5: str, report: Path
) -> dict[str, Any]:
    """The object of ``fade run --json`` without the version and the seconds."""
    return {
        **{key: evaluation.numbers[key] for key in SUMMARY},
        "adapter": str(run.folder / "adapter.safetensors"),
        "adapter_sha256": trained.sha256,
        "data_md5": data_md5,
        "base_sha256": run.models.base.sha256,
        "params_sha256": run.params.sha256(),
        "report": str(report),
    }


def computing_seconds(
    run: RunContext, features: float, trained: Trained, evaluation: EvaluationResult
) -> dict[str, float]:
    """Of the run's seconds those spent computing, by kind."""
    training = 0.0 if trained.reused else trained.run["seconds"]
    kinds = {"pictures": run.generator.seconds, "features": features, "training": training}
    return {name: round(spent, 3) for name, spent in {**kinds, "judging": evaluation.seconds}.items()}


def reproduce(targets: Sequence[str], overrides: Sequence[str], params_file: str = "params.yaml") -> str:
    """The command that makes the run again."""
    elsewhere = [] if params_file == "params.yaml" else ["--params", params_file]
    named = [part for target in targets for part in ("--target", target)]
    changed = [part for item in overrides for part in ("--set", item)]
    return shlex.join(["fade", "run", *named, *elsewhere, *changed])
