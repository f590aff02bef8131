"""Requests, the scheduler, and what became of both."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from flows.cli.app import app
from flows.cli.options import (
    PARAMS,
    RUNS,
    Json,
    ParamsFile,
    Runs,
    Set,
    Verbose,
    name_option,
    opened,
    person_option,
    text_option,
)
from flows.cli.output import emit, show_words
from flows.cli.release import show_stays_out
from flows.cli.screen import bars, escape, print_line, print_note, show_rows

if TYPE_CHECKING:
    from tasks.requests.project import Project

requests = typer.Typer(
    invoke_without_command=True,
    help="Erasure requests: each one's state, derived from the registry; `add` and `run` them.",
)
app.add_typer(
    requests,
    name="requests",
    epilog="Example: fade requests    or: fade requests run panda-2026    or: fade requests add --help",
)
_COLOURS = dict.fromkeys(("failed", "missing", "faulty"), "bold red")
_COLOURS |= {"done": "green", "running": "cyan", "withdrawn": "dim"}
_PASSES = {True: "yes", False: "NO", None: "?"}


@requests.callback()
def listed(
    context: typer.Context,
    set_: Set = None,
    params: ParamsFile = PARAMS,
    runs_dir: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Erasure requests: each one's state, derived from the registry."""
    if context.invoked_subcommand is not None:
        return
    project = _project(params, set_, runs_dir)
    from flows.service.status import registry_status

    status = registry_status(project, with_champions=False)
    emit({key: status[key] for key in ("requests", "counts")}, as_json, _show_requests)
    _warn(status)


@requests.command(
    epilog='Example: fade requests add --concept panda --reason "licence ended" --by ann --due 2026-12-31'
)
def add(
    concept: Annotated[
        str, Option(help="The concept to erase, a name of the data set's vocabulary.", callback=name_option)
    ],
    reason: Annotated[str, Option(help="Why.", callback=text_option)],
    by: str = Option(
        "",
        help="Who asks (default: the user of this machine).",
        envvar="FADE_USER",
        callback=person_option,
    ),
    due: str | None = Option(None, help="Until when: 2026-12-31."),
    name: str | None = Option(None, "--id", help="Its id, given once (default: CONCEPT-DATE)."),
    replacement: str = Option(
        "", help="The concept that takes its place, for methods that have one.", callback=name_option
    ),
    method: str = Option("", help="NAME or NAME/VARIANT (default: params.yaml's)."),
    threshold: list[str] | None = Option(None, help="erased=99: a key of `gate`, only for this request."),
    set_: list[str] | None = Option(
        None, "--set", "-s", help="train.steps=500: a parameter, only for this request."
    ),
    params: ParamsFile = PARAMS,
    runs_dir: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Add a request to the ledger: checked, at its end, everything else left as it is."""
    project = _project(params, None, runs_dir)
    from tasks.requests.project import add_request

    who = {"id": name, "concept": concept, "reason": reason, "requested_by": by or getpass.getuser()}
    how = {"replacement": replacement, "method": method, "set": set_ or []}
    request = add_request(project, {**who, "due": due, **how, "thresholds": _thresholds(threshold or [])})

    def show(_: Any) -> None:
        due = f", due {request.due}" if request.due else ""
        print_line(f"{request.id}: {request.concept}, asked for by {request.requested_by}{due}")

    emit(request.to_json(), as_json, show)


def _thresholds(texts: Sequence[str]) -> dict[str, float]:
    from fade.errors import UsageError

    pairs = {}
    for text in texts:
        key, _, value = text.partition("=")
        try:
            pairs[key] = float(value)
        except ValueError:
            action = "write --threshold erased=99."
            raise UsageError(f"{text!r} is no key=number.", stage="requests", action=action) from None
    return pairs


@requests.command(
    epilog="Example: fade requests run    or, whatever became of it before: fade requests run panda-2026"
)
def run(
    ids: list[str] | None = Argument(
        None, help="Requests to work off, also those that failed; none: all open ones."
    ),
    set_: Set = None,
    params: ParamsFile = PARAMS,
    runs_dir: Runs = RUNS,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Work off open requests now, as the scheduler does: each is claimed, erased and reported. Exit code 1
    when one failed."""
    project = _project(params, set_, runs_dir, verbose=verbose)
    settings = project.resolve()
    for name in ids or []:
        project.requests(settings).get(name)
    from flows.server import runtime

    runtime.join(runs_dir)
    runtime.serve(whole=True)
    runtime.await_server()
    runtime.reach()
    from fade.errors import RequestError
    from flows.server.gpu_slot import ensure_gpu_limit
    from flows.service.process_requests import process_requests

    ensure_gpu_limit(settings, change=False)
    where: dict[str, Any] = {
        "params_file": str(params),
        "runs": str(runs_dir),
        "overrides": list(project.overrides),
    }
    failure = None
    with bars(as_json):
        try:
            result = runtime.run(process_requests, only=ids or [], **where)
        except RequestError as error:
            if not isinstance(error.result, dict):
                raise
            result, failure = error.result, error
    emit(result, as_json, _show_outcomes)
    if failure is not None:
        raise failure


def _show_outcomes(result: dict[str, Any]) -> None:
    columns = ("id", "concept", "result", "version", "text")
    rows = [[*(o[column] for column in columns), f"{o['seconds']:.0f} s"] for o in result["outcomes"]]
    if rows:
        head = ["request", "concept", "result", "version", "why", "took"]
        show_rows(f"{len(rows)} request(s) worked off", head, rows)
    else:
        print("nothing is open")
    for one in result.get("releases", []):
        print_line(f"{one['name']}/{one['version']}: {one['refused'] or 'current'}")
        show_stays_out(one["stays_out"])
    if result.get("no_release"):
        print_line(f"no release: {result['no_release']}")


@app.command(
    epilog="Example: fade serve    or, beside a Prefect server: PREFECT_API_URL=http://prefect:4200/api "
    "fade serve"
)
def serve(
    site: Path | None = Option(None, help="Folder of the static site, made again after each run."),
    set_: Set = None,
    params: ParamsFile = PARAMS,
    runs_dir: Runs = RUNS,
) -> None:
    """Run the scheduler until it is stopped: open requests, re-evaluation of champions, the audit; each by
    its cron (`schedule`)."""
    project = _project(params, set_, runs_dir, verbose=True)
    from flows.service.serve import serve as serve_deployments

    serve_deployments(project, project.resolve(), print_note, str(site.absolute()) if site else "")


@app.command(epilog="Example: fade status --json")
def status(
    set_: Set = None, params: ParamsFile = PARAMS, runs_dir: Runs = RUNS, as_json: Json = False
) -> None:
    """What ran, what runs, what waits, what failed and why; open and overdue requests; champions and stale
    ones."""
    project = _project(params, set_, runs_dir)
    from fade.errors import OrchestrationError
    from flows.server import runtime
    from flows.service.status import prefect_status, registry_status

    result = registry_status(project)
    what = "no scheduler runs here: start `fade serve`, or name its server in PREFECT_API_URL."
    result["prefect"] = {"error": what}
    if runtime.join(runs_dir):
        try:
            runtime.reach()
            result["prefect"] = prefect_status()
        except OrchestrationError as error:  # what the registry knows is shown all the same
            result["prefect"] = {"error": str(error)}
    emit(result, as_json, _show_status)


def _show_status(status: dict[str, Any]) -> None:
    _show_runs(status["prefect"])
    _show_requests(status)
    if status["champions"]:
        rows = [
            [f"{c['model']}/{c['version']}", _PASSES[c["passes"]], c["reevaluated"], c["stale"] or c["why"]]
            for c in status["champions"]
        ]
        show_rows("champions", ["version", "passes", "re-evaluated", "why not"], rows)
    _warn(status)


def _show_runs(status: dict[str, Any]) -> None:
    if "error" in status:
        print_note(f"[yellow]scheduler[/]   {escape(status['error'])}")
        return
    rows = []
    for deployment in status["deployments"]:
        cron = "paused" if deployment["paused"] else ", ".join(deployment["crons"]) or "no cron"
        runs = [*deployment["running"], *deployment["last"], *deployment["waiting"][:1]]
        for run in runs or [{"state": "never ran", "at": "", "why": ""}]:
            name = f"{deployment['flow']}/{deployment['name']}"
            rows.append([name, cron, run["state"], run["at"], run["why"]])
    show_rows(f"scheduler at {status['url']}", ["deployment", "cron", "run", "at", "why"], rows)


def _show_requests(status: dict[str, Any]) -> None:
    rows, styles = [], []
    for one in status["requests"]:
        state = one["state"] + (", overdue" if one["overdue"] else "")
        rows.append([one["id"], one["concept"], state, one["due"], one["requested_by"], one["detail"]])
        styles.append("bold red" if one["overdue"] else _COLOURS.get(one["state"]))
    head = ["request", "concept", "state", "due", "by", "why"]
    show_words(f"{len(rows)} request(s)", head, rows, styles)


def _warn(status: dict[str, Any]) -> None:
    """The loud warning: a request that vanished from the file, or cannot be read there."""
    for one in status["requests"]:
        if one["state"] in ("missing", "faulty"):
            print_note(
                f"[bold red]{escape(one['state'])}[/] request {escape(one['id'])}: {escape(one['detail'])}"
            )


def _project(params: Path, overrides: list[str] | None, runs: Path, *, verbose: bool = False) -> Project:
    opened(params, overrides, runs, verbose=verbose)
    from tasks.requests.project import Project

    return Project(params, runs, tuple(overrides or ()))
