"""`fade release`: select the champions -> build -> evaluate -> register -> decide. Of the same champions
nothing is made twice."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from prefect import flow
from prefect import runtime as prefect_runtime

from fade.errors import BaseModelError, DataError
from fade.governance.release_plan import STAGE
from fade.run.context import RunContext
from fade.utils import progress
from fade.utils.clock import Clock
from fade.utils.files import make_folder, write_json
from fade.utils.locks import lock_folder
from tasks.data.pull import pull_task
from tasks.registry.connection import Tracking, connect
from tasks.registry.register import register_task
from tasks.registry.versions import load_snapshot, resolve
from tasks.release.build_release import (
    ReleaseParts,
    build_champions,
    find_release,
    predict_champions,
    release_key,
    release_settings,
    require_not_revoked,
    select_champions,
)
from tasks.release.evaluate_release import evaluate_release, make_release_report, release_lineage
from tasks.release.release_decision import ReleaseOptions, compare_with_current, make_current
from tasks.stages.lineage import open_record, require_unchanged, run_inputs
from tasks.stages.mine import mine


def plan_release(options: ReleaseOptions) -> dict[str, Any]:
    """The outcome of `release` without making it, with its interaction table as ``predicted``, or
    ``unpredicted``: why there is none. Writes nothing but caches. Raises as `release`."""
    tracking, selected = _select(options)
    existing = find_release(tracking, selected, options.params, options.root)
    version = str(existing.version) if existing else None
    plan = {**compare_with_current(tracking, options, selected), "version": version, "made": False}
    return {**plan, "mode": options.params.release.mode, **_prediction(options, selected)}


def _prediction(options: ReleaseOptions, selected: ReleaseParts) -> dict[str, Any]:
    run = RunContext(options.params, selected.concepts, options.runs, options.root)
    try:
        predicted = predict_champions(run, selected, release_settings(run, selected))
    except (BaseModelError, DataError) as error:  # the plan is of the registry alone, and stands without it
        return {"predicted": {}, "unpredicted": str(error)}
    from fade.governance.exclusion import predicted_exclusion

    stays_out = predicted_exclusion(predicted, options.params.release.residual)
    return {"predicted": predicted, "stays_out": stays_out, "next": next_command(options, stays_out)}


def release(options: ReleaseOptions) -> dict[str, Any]:
    """Make the release of all champions, unless the registry has it, and make it current when it passes the
    gate.

    Returns what `fade release --json` prints; ``current`` False and ``refused`` say that it was registered,
    but did not pass, or was taken back before; ``stays_out`` and ``next``: the smallest set that has to stay
    out of it, and the command that makes the release of the others. Raises PromotionError, AdapterError,
    SignatureError, RegistryError and whatever mining and evaluation raise."""
    from flows.server import runtime

    tracking, selected = _select(options)
    comparison = compare_with_current(tracking, options, selected)
    version, seconds = find_release(tracking, selected, options.params, options.root), {}
    if version is None:
        runtime.start()
        number, seconds = runtime.run(make_release, options=options, selected=selected)
        label = f"{options.name}/{number}"
        version = resolve(load_snapshot(tracking, label, options.trust), label)
    decided = make_current(tracking, options, version)
    made = {"version": str(version.version), "made": bool(seconds)}
    following = next_command(options, decided["stays_out"])
    return {**comparison, **made, **decided, "next": following, "seconds": seconds}


def release_within_gate(options: ReleaseOptions) -> list[dict[str, Any]]:
    """As `release`; while the gate refuses it one more, at most ``release.retries`` times, of the champions
    that the last one does not name. Returns all of them in order; raises as `release`."""
    results = [release(options)]
    for _ in range(options.params.release.retries):
        if not (concepts := concepts_out(results[-1]["stays_out"])):
            break
        options = replace(options, without=(*options.without, *concepts))
        results.append(release(options))
    return results


def concepts_out(stays_out: Mapping[str, Any]) -> list[str]:
    """The concepts of the set that has to stay out."""
    return [concept for one in stays_out.get("members", []) for concept in one["concepts"]]


def next_command(options: ReleaseOptions, stays_out: Mapping[str, Any]) -> str:
    """The command that makes the release of the others; empty where nothing has to stay out."""
    concepts = concepts_out(stays_out)
    return _command(replace(options, without=(*options.without, *concepts))) if concepts else ""


@flow(name="release", validate_parameters=False)
def make_release(options: ReleaseOptions, selected: ReleaseParts) -> tuple[str, dict[str, float]]:
    """Build, evaluate, register. Returns the version's number and the seconds of each stage."""
    params, clock = options.params, Clock()
    run = RunContext(params, selected.concepts, options.runs, options.root)
    identity = release_key(selected, params, options.root, signed=bool(params.signing.private_key))
    folder = options.runs / "release" / options.name / identity
    make_folder(folder)
    with lock_folder(folder.parent, "a release is being made", STAGE):
        with clock.stage("pull"):
            pulled = pull_task(params.data, run.root, run.runs)
        with clock.stage("mine"):
            before = run_inputs(run)
            neighborhood = mine(run)
        with clock.stage("compose"):
            settings = release_settings(run, selected)
            built = build_champions(run, selected, settings, folder)
        lineage = open_record(
            run,
            neighborhood,
            overrides=options.overrides,
            data_md5=pulled.md5,
            data_files=pulled.files,
            data_size=pulled.size,
            dvc_files=pulled.dvc_files,
            inputs=before,
            precision=str(run.models.base.dtype).removeprefix("torch."),
            flow_run_id=str(prefect_runtime.flow_run.id or ""),
        )
        with clock.stage("evaluate"):
            evaluation, alone = evaluate_release(
                run, neighborhood, selected, settings, built.predicted, folder
            )
            lineage = require_unchanged(
                release_lineage(
                    lineage,
                    run_inputs(run),
                    built.sha256,
                    selected,
                    settings,
                    evaluation.numbers,
                    params.gate,
                )
            )
            lineage.save(folder / "lineage.json")
        with clock.stage("register"):
            tracking = connect(options.runs, timeout=params.register_.timeout_seconds)
            require_not_revoked(tracking, params, selected, options.root)
            record, command = lineage.content, _command(options)
            make_release_report(
                run, neighborhood, selected, evaluation, alone, record, clock.seconds, command, folder
            )
            progress.report("register", 0, 1, "MLflow")
            version = register_task(
                evaluation.numbers, params, record, folder, runs=run.runs, root=run.root, name=options.name
            )
            progress.report("register", 1, 1, "MLflow")
    result = {"name": version.name, "version": version.version, "seconds": clock.seconds}
    write_json(folder / "result.json", result)
    return version.version, clock.seconds


def _select(options: ReleaseOptions) -> tuple[Tracking, ReleaseParts]:
    tracking = connect(options.runs, timeout=options.params.register_.timeout_seconds)
    selected = select_champions(tracking, options.params, options.runs, options.root)
    return tracking, selected.without(options.without)


def _command(options: ReleaseOptions) -> str:
    """The command that makes the release again."""
    elsewhere = [] if options.params_file == "params.yaml" else ["--params", options.params_file]
    settings = [part for item in options.overrides for part in ("--set", item)]
    without = [part for name in options.without for part in ("--without", name)]
    return shlex.join(["fade", "release", *elsewhere, *settings, *without])
