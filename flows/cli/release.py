"""Releases: the champions of all concepts in one model, and the way back."""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from typing import Any

import typer
from typer import Option

from flows.cli.app import app
from flows.cli.options import (
    PARAMS,
    RUNS,
    By,
    Json,
    ParamsFile,
    Reason,
    Runs,
    Set,
    Verbose,
    World,
    names_option,
    opened,
    with_world,
)
from flows.cli.output import emit, show_words
from flows.cli.screen import bars, escape, print_line, print_note, show_rows


@app.command(epilog="Example: fade release --by ann    or: fade release --dry-run")
def release(
    by: By = "",
    override: str = Option("", help="Make it current although a concept falls short: why. Shown for ever."),
    without: list[str] | None = Option(
        None,
        metavar="CONCEPT",
        help="Leave out the champion that erases this concept; may be repeated.",
        callback=names_option,
    ),
    dry_run: bool = Option(
        False, "--dry-run", help="Say what it would be made of and is predicted to cost, and make nothing."
    ),
    world: World = None,
    set_: Set = None,
    params: ParamsFile = PARAMS,
    runs_dir: Runs = RUNS,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Make one adapter of the champions of all concepts (`release.mode`), judge it, and make it the current
    release when every concept passes the gate. Of one that does not pass, the smallest set of champions that
    has to stay out is named, and why."""
    set_ = with_world(params, world, set_, pulls=True)
    settings = opened(params, set_, runs_dir, verbose=verbose)
    from fade.run.context import RunContext
    from fade.run.preflight import preflight
    from tasks.registry.trust import Trust

    if not dry_run:
        preflight(RunContext(settings, (), runs_dir, params.parent), trains=False)
        Trust.of(settings.signing, params.parent).check_files("the versions")
    from flows import release as flow
    from tasks.release.release_decision import ReleaseOptions

    who = by or getpass.getuser()
    options = ReleaseOptions(
        settings,
        runs_dir,
        params.parent,
        tuple(set_ or ()),
        str(params),
        who,
        override,
        tuple(without or ()),
    )
    with bars(as_json):
        result = flow.plan_release(options) if dry_run else flow.release(options)
    emit(result, as_json, _show_plan if dry_run else _show_release)
    current, revoked = result["was_current"], result["was_current_holds_revoked"]
    _warn(result["name"], current, revoked, replaced=bool(result.get("current")))
    if result.get("refused"):
        following = f"`{result['next']}`, or erase" if result["next"] else "erase"
        print_note(
            f"[bold red]refused[/] {escape(result['refused'])} Next: {escape(following)} and promote again, "
            "or give --override a reason."
        )
        raise typer.Exit(1)


COSTLIEST = 3
"""Concepts that a row of the prediction names."""


def _show_plan(result: Mapping[str, Any]) -> None:
    version = f"is {result['name']}/{result['version']}" if result["version"] else "would be a new version"
    print_line(f"release     {version}; current is {result['was_current'] or 'none'}")
    _show_parts(result)
    if result.get("unpredicted"):
        print_note(f"[yellow]no prediction[/] {escape(result['unpredicted'])}")
    if predicted := result.get("predicted"):
        _show_prediction(predicted)
        show_stays_out(result.get("stays_out", {}))
        if result.get("next"):
            print_note(f"Next: `{escape(result['next'])}`")


def _show_prediction(predicted: Mapping[str, Any]) -> None:
    rows = []
    for champion, one in predicted["erased"].items():
        costs = {
            name: cost["of"].get(champion, 0.0)
            for name, cost in predicted["cost"].items()
            if cost["group"] != "erased"
        }
        most = sorted(costs, key=lambda name: -costs[name])[:COSTLIEST]
        shares = [f"{100 * one[key]:.1f}" for key in ("residual", "missing", "foreign")]
        rows.append([champion, *shares, ", ".join(f"{name} {costs[name]:.1f}" for name in most)])
    head = ["", "residual", "missing", "of others", "costs most"]
    note = "percent, by the text states alone: of the champion's change on its target, and of what the "
    note += (
        f"original's layers put out. Not predicted: {predicted['added_layers']} layers that read the picture"
    )
    show_rows(f"predicted, {predicted['mode']} at rank {predicted['rank']}", head, rows, note)
    for group, one in predicted["groups"].items():
        print_line(
            f"{group:11} {one['concepts']} concepts: {one['mean']:.2f} on average, {one['largest']:.2f}"
        )
    for name in predicted["no_neighbour"]:
        print_line(f"neighbours  all of {name}'s are erased, too")
    if predicted["breaks"]:
        print_note(f"[yellow]no room[/] {escape(predicted['breaks'])}")


def _show_release(result: Mapping[str, Any]) -> None:
    from fade.evaluation.metrics import report_rows

    metrics = [metric for metric, _ in report_rows(first_table=True)]
    rows = [
        [concept, *(f"{_number(one['alone'], m.name)} > {_number(one['metrics'], m.name)}" for m in metrics)]
        for concept, one in result["concepts_judged"].items()
    ]
    state = "current" if result["current"] else "not current"
    title = f"{result['name']}/{result['version']}: {state}{'' if result['made'] else ', made before'}"
    note = "percent: the champion alone > the release, on the same pictures"
    show_rows(title, ["", *(metric.title for metric in metrics)], rows, note)
    _show_parts(result)
    for group, one in result.get("kept", {}).items():
        shares = f"{_percent(one['base'])} > {_percent(one['erased'])}"
        print_line(f"must stay   {group}: {shares} % of {one['concepts']} judged concepts")
    if result.get("breaks"):
        print_note(f"[yellow]no room[/] {escape(result['breaks'])}")
    print_line(f"sha256      {result['adapter_sha256']}")
    show_stays_out(result.get("stays_out", {}))
    if result["seconds"]:
        print_line(
            "seconds     " + ", ".join(f"{name} {value:.1f}" for name, value in result["seconds"].items())
        )


def show_stays_out(stays_out: Mapping[str, Any]) -> None:
    """The smallest set of champions that has to stay out, and why each of them; nothing where there is
    none."""
    members = stays_out.get("members", [])
    for one in members:
        print_line(f"stays out   {' + '.join(one['concepts'])}: {one['why']}")
    if members:
        found = f"{len(members)} found by {stays_out['search']} search"
        print_line(f"the others  predicted to pass by {stays_out['margin']:.1f} points; {found}")
    if stays_out.get("none"):
        print_note(f"[yellow]no set[/] {escape(stays_out['none'])}")


def _number(metrics: Mapping[str, float | None], name: str) -> str:
    return _percent(metrics.get(name))


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _show_parts(result: Mapping[str, Any]) -> None:
    print_line(f"parts       {_list(result['parts'])}")
    print_line(f"new in it   {_list(result['parts_in'])}", f"no more     {_list(result['parts_out'])}")
    if result["left_out"]:
        print_line(f"left out    {_list(result['left_out'])} (styles)")


def _list(names: list[str]) -> str:
    return ", ".join(names) or "none"


def _warn(name: str, current: str | None, revoked: list[str], *, replaced: bool = False) -> None:
    """The loud warning: the current release holds a part that was revoked."""
    if revoked and not replaced:
        what = f"the current release {name}/{current} holds {', '.join(revoked)}, which was revoked: it "
        print_note(
            f"[bold red]revoked[/] {escape(what)}refuses to load. Next: `fade release`, or `fade rollback`."
        )


@app.command(
    epilog='Example: fade rollback --reason "the lemon comes back in the shop"    or: fade rollback --to 2 '
    '--reason "as agreed"'
)
def rollback(
    reason: Reason,
    to: str | None = Option(
        None, help="The number of the release to go back to (default: the one before the current)."
    ),
    by: By = "",
    set_: Set = None,
    params: ParamsFile = PARAMS,
    runs_dir: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Make an earlier release current again: its very bytes, by one more decision."""
    from fade.errors import UsageError

    if not reason.strip():
        raise UsageError("a rollback needs a reason.", stage="rollback", action="give it with --reason.")
    settings = opened(params, set_, runs_dir)
    from tasks.registry import releases as registry

    result = registry.rollback(
        settings, runs_dir, params.parent, by=by or getpass.getuser(), reason=reason, to=to
    )
    emit(result, as_json, _show_rollback)


def _show_rollback(result: Mapping[str, Any]) -> None:
    decision = f"decision {result['number']} by {result['by']}"
    print_line(f"current     {result['model']}/{result['to']}, no longer {result['from']} ({decision})")
    print_line(f"parts       {', '.join(result['parts'])}")
    print_line(f"taken out   {_list(result['parts_out'])}", f"back in     {_list(result['parts_in'])}")
    print_line(f"adapter     {result['adapter']}", f"sha256      {result['adapter_sha256']}")


@app.command(epilog="Example: fade releases")
def releases(
    set_: Set = None, params: ParamsFile = PARAMS, runs_dir: Runs = RUNS, as_json: Json = False
) -> None:
    """All releases: what each is made of, which is current, when that was decided; one that holds a revoked
    part in red."""
    settings = opened(params, set_, runs_dir)
    from tasks.registry import releases as registry

    emit(registry.releases(settings, runs_dir, params.parent), as_json, _show_releases)


def _show_releases(releases: list[dict[str, Any]]) -> None:
    if not releases:
        print("there is no release yet; make one with `fade release`")
        return
    facts = ("made_at", "decided_at", "by")
    rows = [
        [one["version"], _state(one), ", ".join(one["parts"]), *(one[fact] or "" for fact in facts)]
        for one in releases
    ]
    styles = ["bold red" if one["revoked"] else "bold" if one["current"] else None for one in releases]
    head = ["", "state", "parts", "made", "decided", "by"]
    show_words(f"releases of {releases[0]['name']}", head, rows, styles)
    for one in releases:
        if one["unreadable"]:
            print_note(f"[bold red]unreadable[/] {escape(one['unreadable'])}")
        if one["current"]:
            _warn(one["name"], one["version"], one["revoked"])


def _state(release: Mapping[str, Any]) -> str:
    state = "current" if release["current"] else release["state"]
    if release["revoked"]:
        return f"{state}; HOLDS REVOKED {', '.join(release['revoked'])}"
    return f"{state}, taken back" if release["taken_back"] else state
