"""Audits: make a version again, or compare its evidence."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer import Argument, Option

from flows.cli.app import app
from flows.cli.options import (
    PARAMS,
    RUNS,
    Json,
    ModelName,
    ParamsFile,
    Runs,
    Set,
    opened,
    person_option,
    trust,
)
from flows.cli.output import emit
from flows.cli.screen import bars, escape, print_line, print_markup, print_note, show_rows

_MARKS = {True: "yes", False: "NO", None: "told"}


@app.command(epilog="Example: fade audit fade-panda/1    or: fade audit all --evidence-only")
def audit(
    version: Annotated[
        str, Argument(help="NAME/VERSION, NAME@champion or NAME; `all` versions; the `champions`.")
    ],
    evidence_only: bool = Option(
        False, "--evidence-only", help="Hashes, signature and records; no re-run. Seconds."
    ),
    no_control: bool = Option(False, "--no-control", help="Leave the control run out; the report says so."),
    by: str = Option(
        "",
        help="Who audits (default: the user of this machine).",
        envvar="FADE_USER",
        callback=person_option,
    ),
    set_: Set = None,
    params: ParamsFile = PARAMS,
    runs_dir: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Make a version's run again from its recorded code, data and parameters, and say whether it comes out
    the same."""
    settings = opened(params, set_, runs_dir)
    from flows import audit as flow

    choice: dict[str, Any] = {"evidence_only": evidence_only, "with_control": not no_control, "by": by}
    with bars(as_json):
        results = flow.audit(version, settings, runs_dir, root=params.parent, **choice)
    emit(results, as_json, _show_audits)
    if not all(result["good"] for result in results):
        raise typer.Exit(1)


@app.command(epilog="Example: fade audits fade-panda")
def audits(
    model: ModelName,
    set_: Set = None,
    params: ParamsFile = PARAMS,
    runs_dir: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Every audit of a model's versions; an edited or cut history is refused."""
    from dataclasses import asdict

    keys = trust(params, set_, runs_dir)
    from tasks.registry.audit_log import history

    def show(audits: list[dict[str, Any]]) -> None:
        columns = ("number", "version", "verdict", "control", "by", "at", "stage")
        rows = [[str(audit[column]) for column in columns] for audit in audits]
        head = ["", "version", "verdict", "control", "by", "at", "where"]
        show_rows(f"{model}: {len(audits)} audit(s), unbroken", head, rows)

    emit(
        [{**asdict(audit), "sha256": audit.sha256()} for audit in history(model, runs_dir, keys)],
        as_json,
        show,
    )


def _label(result: dict[str, Any]) -> str:
    return f"{result['model']}/{result['version']}"


def _show_audits(results: list[dict[str, Any]]) -> None:
    for result in results:
        if result["number"] is None:
            print_note(f"[bold red]not recorded[/] {escape(result['unrecorded'])}")
    if len(results) == 1:
        _show_audit(results[0])
        return
    rows = [[_label(r), r["verdict"]["said"], r["control"] or "-", r["report"]] for r in results]
    show_rows(f"{len(rows)} audit(s)", ["version", "verdict", "control", "report"], rows)


def _show_audit(result: dict[str, Any]) -> None:
    rows = [[row["what"], _MARKS[row["holds"]], row["found"]] for row in result["evidence"]]
    stages = result["stages"] if result["again"] else []
    rows += [[f"stage {row['stage']}", _MARKS[row["same"]], row["again"][:60]] for row in stages]
    show_rows(_label(result), ["", "holds", "found"], rows)
    if result["control"]:
        print_line(f"control     {result['control']}")
    colour = "green" if result["good"] else "red"
    print_markup(f"verdict     [bold {colour}]{escape(result['verdict']['said'])}[/]")
    print_line(f"report      {result['report']}")
