"""A published protocol, target by target: what is measured already under the same settings, models and code
is taken from the runs folder, so that a protocol that was stopped goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import flow

from fade.benchmark.record import SHARED
from fade.data.vocabulary import slug
from fade.errors import EvaluationError, TrainingError
from fade.evaluation.protocols import STAGE, Part, Protocol, measured_of
from fade.provenance.fingerprints import code_sha256, method_components
from fade.reporting.protocol import csv_of, markdown
from fade.run.context import RunContext
from fade.run.protocol_plan import Inputs, plan
from fade.utils import progress
from fade.utils.files import make_folder, read_json, write_json, write_whole
from fade.utils.hashing import fingerprint
from fade.utils.locks import lock_folder
from flows.erase import erase
from tasks.stages.benchmark import sources_of

TABLE = ("protocol.json", "table.csv", "table.md")


@dataclass(frozen=True)
class ProtocolOptions:
    """Options of `fade protocol`."""

    protocol: Protocol
    """With the user's targets, method and settings."""
    inputs: Inputs

    @property
    def folder(self) -> Path:
        return self.inputs.runs / STAGE / self.protocol.name


@dataclass(frozen=True)
class Target:
    """One erasure of a protocol."""

    part: Part
    name: str
    run: RunContext
    overrides: tuple[str, ...]


Work = Callable[[ProtocolOptions, Target], Mapping[str, Any]]
"""Erases a target and returns its record: ``summary`` of `fade run`, ``numbers``, further blocks."""


@flow(name="protocol", validate_parameters=False)
def protocol(options: ProtocolOptions) -> dict[str, Any]:
    """Run what is not measured yet, and write ``protocol.json``, ``table.csv`` and ``table.md`` below
    ``runs/protocol/NAME``. Returns what protocol.json holds."""
    with lock_folder(options.folder, f"protocol {options.protocol.name} is being run", STAGE):
        if options.protocol.flow == "nudity":
            return count(options)
        return measure_all(options)


def measure_all(options: ProtocolOptions, work: Work | None = None) -> dict[str, Any]:
    """The result over all targets; one that cannot be trained or judged does not stop the others. The table
    is written after each. Raises StorageError, and what erasing raises."""
    work = work or erase_target
    todo = targets_of(options)
    rows: list[dict[str, Any]] = []
    failures: list[dict[str, str]] = []
    result = _result(options, rows, failures)
    for done, target in enumerate(todo):
        progress.report(STAGE, done, len(todo), target.name)
        try:
            rows.append(measure(options, target, work))
        except (EvaluationError, TrainingError) as error:
            failures.append({"part": target.part.name, "target": target.name, "why": str(error)})
        publish(options, result)
    progress.report(STAGE, len(todo), len(todo), f"{len(failures)} failed" if failures else "")
    return result


def targets_of(options: ProtocolOptions) -> list[Target]:
    """Every target of every part, in the protocol's order. Raises as `fade.run.resolve_params.resolve`."""
    out = []
    for part in options.protocol.parts:
        overrides = tuple(options.inputs.settings(options.protocol, part))
        for name in part.targets:
            run = options.inputs.context(options.protocol, part, name)
            out.append(Target(part, name, run, overrides))
    return out


def measure(options: ProtocolOptions, target: Target, work: Work) -> dict[str, Any]:
    """The target's row: the kept one when there is one, else measured and kept."""
    inputs = inputs_of(options, target)
    name = f"{slug(target.part.name)}-{slug(target.name)}-{fingerprint(inputs)[:12]}.json"
    path = options.folder / "cells" / name
    if (row := _kept(path, inputs)) is not None:
        return {**row, "reused": True}
    record = work(options, target)
    row = row_of(options.protocol, target, record)
    make_folder(path.parent)
    write_json(path, {"inputs": inputs, "row": row, "sha256": fingerprint(row)}, sync=True)
    return {**row, "reused": False}


def inputs_of(options: ProtocolOptions, target: Target) -> dict[str, Any]:
    """All that decides a target's numbers, as JSON: settings, models and vocabulary by hash, code."""
    params = target.run.params
    attacks = options.protocol.flow == "robustness"
    settings = params.key_fields("attacks" if attacks else "evaluation")
    del settings["data"]  # the hashes of what it names are in ``sources``
    inputs = {
        "flow": options.protocol.flow,
        "metrics": list(options.protocol.metrics),
        "part": target.part.name,
        "target": target.name,
        "settings": settings,
        "sources": sources_of(target.run),
        "code": code_sha256(*SHARED, *method_components(params.method.name)),
    }
    return dict(json.loads(json.dumps(inputs)))


def row_of(protocol: Protocol, target: Target, record: Mapping[str, Any]) -> dict[str, Any]:
    """A target's row of the table, with where its evidence lies."""
    summary = record["summary"]
    names = ("neighbours", "heldout", "n", "adapter", "adapter_sha256", "report", "data_md5", "base_sha256")
    version = {name: summary.get(name) for name in ("model_name", "model_version")}
    return {
        "part": target.part.name,
        "target": target.name,
        "metrics": measured_of(protocol, record),
        **{name: summary[name] for name in names},
        **version,
    }


def erase_target(options: ProtocolOptions, target: Target) -> dict[str, Any]:
    """`fade run` of one target, and for a protocol of robustness indirect prompts and attacks on what it
    made."""
    run = target.run
    summary = erase(
        target=[target.name],
        params=run.params.model_dump(mode="json", by_alias=True),
        runs=str(run.runs),
        root=str(run.root),
        overrides=list(target.overrides),
        params_file=str(options.inputs.params_file),
    )
    adapter = Path(summary["adapter"])
    numbers = read_json(adapter.parent / "evaluation.json") or summary
    record = {"summary": summary, "numbers": numbers}
    if options.protocol.flow != "robustness":
        return record
    from tasks.stages.mine import mine
    from tasks.stages.robustness import measure_robustness

    return {**record, **measure_robustness(run, mine(run), adapter, dict(numbers))}


def count(options: ProtocolOptions) -> dict[str, Any]:
    """The result of a protocol that counts nudity: that of `fade nudity` under ``nudity``. Raises as
    `tasks.stages.nudity.nudity`."""
    from tasks.stages.nudity import NudityOptions, nudity

    inputs = options.inputs
    run = inputs.context(options.protocol, None)
    rule = NudityOptions(protocol=str(options.protocol.value("rule")))
    counted = nudity(run, inputs.prompts or Path(), inputs.model, rule)
    result = {**_result(options, [], []), "nudity": counted}
    publish(options, result)
    return result


def publish(options: ProtocolOptions, result: Mapping[str, Any]) -> None:
    """Write the result as JSON, CSV and Markdown. Raises StorageError."""
    make_folder(options.folder)
    whole, table, page = (options.folder / name for name in TABLE)
    write_json(whole, result)
    write_whole(table, csv_of(result), stage=STAGE)
    text = markdown(result)
    if "nudity" in result:
        from fade.reporting.nudity import markdown as nudity_page

        text += "\n" + nudity_page(result["nudity"])
    write_whole(page, text, stage=STAGE)


def _result(
    options: ProtocolOptions, rows: list[dict[str, Any]], failures: list[dict[str, str]]
) -> dict[str, Any]:
    """rows and failures are filled later."""
    where = {"folder": str(options.folder)}
    planned = plan(options.protocol, options.inputs)
    return {"protocol": options.protocol.name, "plan": planned, "rows": rows, "failures": failures, **where}


def _kept(path: Path, inputs: Mapping[str, Any]) -> dict[str, Any] | None:
    """A kept row of exactly these inputs whose adapter is still there; None for any other, also for a damaged
    one."""
    cell = read_json(path)
    try:
        row = dict(cell["row"])
        same = cell["inputs"] == inputs and cell["sha256"] == fingerprint(row)
        return row if same and Path(row["adapter"]).is_file() else None
    except (KeyError, TypeError, ValueError):
        return None
