"""Published protocols: what each is made of, what is missing, and its run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Exit, Option

from flows.cli.app import app
from flows.cli.options import (
    PARAMS,
    RUNS,
    Json,
    ParamsFile,
    Runs,
    Set,
    Verbose,
    World,
    opened,
    with_world,
)
from flows.cli.output import emit, show_words
from flows.cli.screen import bars, escape, print_line, print_note, show_rows


@app.command(epilog="Example: fade protocol fade-cvpr25 --plan")
def protocol(
    name: Annotated[str, Argument(help="fade-cvpr25, imagenette, imagenet, i2p or genmu.")],
    plan: bool = Option(
        False, "--plan", help="Its settings with their sources, and what is missing here; runs nothing."
    ),
    part: str = Option("", help="One data set of several alone: dogs."),
    targets: str = Option(
        "", help="Other targets by comma, each NAME or PART:NAME (without a part: of data.images)."
    ),
    method: str | None = Option(None, help="NAME or NAME/VARIANT in place of the protocol's method."),
    model: str = Option("", help="The erased model of a protocol that erases nothing (i2p)."),
    prompts: Path | None = Option(None, help="The table of prompts of such a protocol."),
    world: World = None,
    set_: Set = None,
    params: ParamsFile = PARAMS,
    runs_dir: Runs = RUNS,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Run a published evaluation, target by target; finished targets are kept. Exit code 1 where something
    is missing or failed."""
    overrides = with_world(params, world, set_, pulls=not plan) or []
    opened(params, overrides, runs_dir, verbose=verbose)
    from fade.evaluation.protocols import narrowed, with_method
    from fade.evaluation.published_protocols import get_protocol
    from fade.run import protocol_plan
    from fade.utils.names import checked_name

    named = [checked_name("name", one, stage="protocol") for one in targets.split(",") if one.strip()]
    chosen = narrowed(get_protocol(name), part=part, targets=named)
    chosen = protocol_plan.with_overrides(with_method(chosen, method) if method else chosen, overrides)
    inputs = protocol_plan.Inputs(params, runs_dir, tuple(overrides), model, prompts)
    planned = protocol_plan.plan(chosen, inputs)
    if plan:
        emit(planned, as_json, _show_plan)
        raise Exit(1 if planned["missing"] else 0)
    protocol_plan.require_all(planned)
    result = _run(chosen, inputs, as_json=as_json)
    emit(result, as_json, _show_result)
    if result["failures"]:
        raise Exit(1)


def _run(chosen: Any, inputs: Any, *, as_json: bool) -> dict[str, Any]:
    from fade.run.preflight import preflight
    from flows import protocol as flow
    from flows.server import runtime
    from tasks.registry.connection import check_store
    from tasks.registry.trust import Trust

    options = flow.ProtocolOptions(chosen, inputs)
    for target in flow.targets_of(options):
        preflight(target.run)
        Trust.of(target.run.params.signing, target.run.root).check_files("the version")
    if chosen.flow != "nudity":
        check_store(inputs.runs)
    runtime.start()
    with bars(as_json):
        result: dict[str, Any] = runtime.run(flow.protocol, options=options)
    return result


def _show_plan(planned: dict[str, Any]) -> None:
    from fade.reporting import protocol as tables

    print_line(planned["title"], planned["citation"], "")
    show_words("settings", tables.SETTINGS_HEAD, tables.setting_rows(planned))
    if planned["parts"]:
        show_words("targets", tables.PARTS_HEAD, tables.part_rows(planned))
    print_line(f"base        {planned['base']}", f"judge       {planned['judge']}")
    print_line(*(f"published   {one}" for one in planned["results"]))
    print_line(*(f"not known   {one}" for one in planned["gaps"]))
    if planned["missing"]:
        show_words("missing here", tables.MISSING_HEAD, tables.missing_rows(planned))


def _show_result(result: dict[str, Any]) -> None:
    from fade.reporting import protocol as tables
    from fade.reporting.nudity import count_rows

    plan = result["plan"]
    if result["rows"]:
        show_rows(plan["title"], tables.head_of(result), tables.result_rows(result))
    if "nudity" in result:
        show_rows(plan["title"], ["", "original", "erased"], count_rows(result["nudity"]))
    print_line(*(f"published   {one}" for one in plan["results"]))
    for one in result["failures"]:
        print_note(escape(f"failed      {one['part']}, {one['target']}: {one['why']}"))
    print_line(f"table       {Path(result['folder']) / 'table.md'}")
