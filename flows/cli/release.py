"""Releases: the champions of all concepts in one model, and the way back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli.app import app
from flows.cli.options import Json, ParamsFile, Runs, Set, Verbose, prepared, resolved
from flows.cli.registry import By
from flows.cli.screen import bars, escape, say, show_rows


@app.command(epilog="Example: fade release --by ann    or: fade release --dry-run")
def release(
    by: By = "",
    override: Annotated[
        str, typer.Option(help="Make it current although a concept falls short: why. Shown for ever.")
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would be made of, and make nothing.")
    ] = False,
    set_: Set = None,
    params: ParamsFile = Path("params.yaml"),
    runs_dir: Runs = Path("runs"),
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Add up the champions of all concepts, judge the sum, and make it the current release when every concept
    passes the gate."""
    import getpass

    settings, overrides = resolved(params, set_)
    prepared(settings, runs_dir, params.parent, verbose)
    from flows.release import plan_release
    from flows.release import release as make
    from tasks.release.release_decision import ReleaseOptions

    by = by or getpass.getuser()
    options = ReleaseOptions(settings, runs_dir, params.parent, tuple(overrides), str(params), by, override)
    with bars(as_json):
        found = plan_release(options) if dry_run else make(options)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        _show_plan(found) if dry_run else _show_release(found)
    _warn(
        found["name"],
        found["was_current"],
        found["was_current_holds_revoked"],
        replaced=bool(found.get("current")),
    )
    if found.get("refused"):
        say(
            f"[bold red]refused[/] {escape(found['refused'])} Next: erase and promote again, or give "
            "--override a reason."
        )
        raise typer.Exit(1)


@app.command(
    epilog='Example: fade rollback --reason "the lemon comes back in the shop"    or: fade rollback --to 2 '
    '--reason "as agreed"'
)
def rollback(
    reason: Annotated[str, typer.Option(help="Why; recorded for ever.")],
    to: Annotated[
        str | None,
        typer.Option(help="The number of the release to go back to (default: the one before the current)."),
    ] = None,
    by: By = "",
    set_: Set = None,
    params: ParamsFile = Path("params.yaml"),
    runs_dir: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """Make an earlier release current again: its very bytes, by one more decision."""
    import getpass

    from fade.errors import UsageError

    if not reason.strip():
        raise UsageError("a rollback needs a reason.", stage="rollback", action="give it with --reason.")
    settings, _ = resolved(params, set_)
    prepared(settings, runs_dir, params.parent)
    from tasks.registry.releases import rollback as go_back

    done = go_back(settings, runs_dir, by=by or getpass.getuser(), reason=reason, to=to)
    if as_json:
        print(json.dumps(done, indent=2))
        return
    print(
        f"current     {done['model']}/{done['to']}, no longer {done['from']} (decision {done['number']} by "
        f"{done['by']})"
    )
    print(f"parts       {', '.join(done['parts'])}")
    print(
        f"taken out   {', '.join(done['parts_out']) or 'none'}\nback in     "
        f"{', '.join(done['parts_in']) or 'none'}"
    )
    print(f"adapter     {done['adapter']}\nsha256      {done['adapter_sha256']}")


@app.command(epilog="Example: fade releases")
def releases(
    set_: Set = None,
    params: ParamsFile = Path("params.yaml"),
    runs_dir: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """All releases: what each is made of, which is current, when that was decided; one that holds a revoked
    part in red."""
    settings, _ = resolved(params, set_)
    prepared(settings, runs_dir, params.parent)
    from tasks.registry.releases import releases as all_of_them

    found = all_of_them(settings, runs_dir)
    if as_json:
        print(json.dumps(found, indent=2))
        return
    if not found:
        print("there is no release yet; make one with `fade release`")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"releases of {found[0]['name']}")
    for column in ("", "state", "parts", "made", "decided", "by"):
        table.add_column(column, overflow="fold")
    for one in found:
        words = [
            one["version"],
            _state(one),
            ", ".join(one["parts"]),
            one["made_at"],
            one["decided_at"] or "",
            one["by"] or "",
        ]
        style = "bold red" if one["revoked"] else "bold" if one["current"] else None
        table.add_row(*map(escape, words), style=style)
    Console().print(table)
    for one in found:
        if one["current"]:
            _warn(one["name"], one["version"], one["revoked"], replaced=False)


def _state(one: Mapping[str, Any]) -> str:
    state = "current" if one["current"] else one["state"]
    if one["revoked"]:
        return f"{state}; HOLDS REVOKED {', '.join(one['revoked'])}"
    return f"{state}, taken back" if one["taken_back"] else state


def _warn(name: str, current: str | None, revoked: list[str], *, replaced: bool) -> None:
    if revoked and not replaced:
        what = (
            f"the current release {name}/{current} holds {', '.join(revoked)}, which was revoked: it "
            "refuses to load."
        )
        say(f"[bold red]revoked[/] {escape(what)} Next: `fade release`, or `fade rollback`.")


def _show_plan(found: Mapping[str, Any]) -> None:
    version = f"is {found['name']}/{found['version']}" if found["version"] else "would be a new version"
    print(f"release     {version}; current is {found['was_current'] or 'none'}")
    _show_parts(found)


def _show_parts(found: Mapping[str, Any]) -> None:
    print(f"parts       {', '.join(found['parts'])}")
    print(
        f"new in it   {', '.join(found['parts_in']) or 'none'}\nno more     "
        f"{', '.join(found['parts_out']) or 'none'}"
    )
    if found["left_out"]:
        print(f"left out    {', '.join(found['left_out'])} (styles)")


def _show_release(found: Mapping[str, Any]) -> None:
    from fade.evaluation.metrics import report_rows

    state = "current" if found["current"] else "not current"
    shown = [metric for metric, _ in report_rows(first_table=True)]
    rows = [
        [
            concept,
            *(f"{_number(one['alone'].get(m.name))} > {_number(one['metrics'].get(m.name))}" for m in shown),
        ]
        for concept, one in found["concepts_judged"].items()
    ]
    made = "" if found["made"] else ", made before"
    note = "percent: the champion alone > the release, on the same pictures"
    show_rows(
        f"{found['name']}/{found['version']}: {state}{made}",
        ["", *(m.title for m in shown)],
        rows,
        note,
    )
    _show_parts(found)
    print(f"sha256      {found['adapter_sha256']}")
    if found["seconds"]:
        print("seconds     " + ", ".join(f"{name} {value:.1f}" for name, value in found["seconds"].items()))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
