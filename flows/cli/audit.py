"""Audits: make a version again, or hold its evidence against itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli.app import app
from flows.cli.options import Json, ParamsFile, Runs, Set, resolved
from flows.cli.screen import bars, escape, say, show_rows


@app.command(epilog="Example: fade audit fade-panda/1    or: fade audit all --evidence-only")
def audit(
    version: Annotated[
        str, typer.Argument(help="NAME/VERSION, NAME@champion or NAME; `all` versions; the `champions`.")
    ],
    evidence_only: Annotated[
        bool, typer.Option("--evidence-only", help="Hashes, signature and records; no re-run. Seconds.")
    ] = False,
    no_control: Annotated[
        bool, typer.Option("--no-control", help="Leave the control run out; the report says so.")
    ] = False,
    by: Annotated[
        str, typer.Option(help="Who audits (default: the user of this machine).", envvar="FADE_USER")
    ] = "",
    set_: Set = None,
    params: ParamsFile = Path("params.yaml"),
    runs_dir: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """Make a version's run again from its recorded code, data and parameters, and say whether it comes out
    the same."""
    from flows.server.runtime import prepare

    settings, _ = resolved(params, set_)
    prepare(runs_dir)
    from flows.audit import audit as run

    with bars(as_json):
        done = run(
            version,
            settings,
            runs_dir,
            evidence_only=evidence_only,
            with_control=not no_control,
            by=by,
            root=params.parent,
        )
    if as_json:
        print(json.dumps(done, indent=2))
    else:
        _show(done)
    if not all(one["good"] for one in done):
        raise typer.Exit(1)


@app.command(epilog="Example: fade audits fade-panda")
def audits(
    model: Annotated[str, typer.Argument(help="NAME of a registered model.")],
    runs_dir: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """Every audit of a model's versions; an edited or cut history is refused."""
    from dataclasses import asdict

    from flows.server.runtime import prepare

    prepare(runs_dir)
    from tasks.registry.audit_log import history

    found = history(model, runs_dir)
    if as_json:
        print(json.dumps([{**asdict(one), "sha256": one.sha256()} for one in found], indent=2))
        return
    rows = [
        [str(one.number), one.version, one.verdict, one.control, one.by, one.at, one.stage] for one in found
    ]
    show_rows(
        f"{model}: {len(found)} audit(s), unbroken",
        ["", "version", "verdict", "control", "by", "at", "where"],
        rows,
    )


def _show(done: list[dict[str, Any]]) -> None:
    from rich.console import Console

    out = Console()
    for one in done:
        if one["number"] is None:
            say(f"[bold red]not recorded[/] {escape(one['unrecorded'])}")
    if len(done) != 1:
        rows = [
            [f"{one['model']}/{one['version']}", one["verdict"]["said"], one["control"] or "-", one["report"]]
            for one in done
        ]
        show_rows(f"{len(done)} audit(s)", ["version", "verdict", "control", "report"], rows)
        return
    (one,) = done
    marks = {True: "yes", False: "NO", None: "told"}
    rows = [[row["what"], marks[row["holds"]], row["found"]] for row in one["evidence"]]
    if one["again"]:
        rows += [[f"stage {row['stage']}", marks[row["same"]], row["again"][:60]] for row in one["stages"]]
    show_rows(f"{one['model']}/{one['version']}", ["", "holds", "found"], rows)
    if one["control"]:
        out.print(f"control     {one['control']}")
    out.print(
        f"verdict     [bold {'green' if one['good'] else 'red'}]{escape(one['verdict']['said'])}[/]",
        soft_wrap=True,
    )
    out.print(f"report      {escape(one['report'])}", soft_wrap=True)
