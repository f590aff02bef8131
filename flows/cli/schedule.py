"""Requests, the scheduler, and what became of both."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.app import app
from flows.cli.options import Json, ParamsFile, Runs, Set, Verbose, prepared, resolved
from flows.cli.screen import bars, escape, say, show_rows

if TYPE_CHECKING:
    from fade.config import Params
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
_COLOURS = {
    "done": "green",
    "running": "cyan",
    "failed": "bold red",
    "missing": "bold red",
    "faulty": "bold red",
    "withdrawn": "dim",
}


@requests.callback()
def listed(
    context: typer.Context,
    set_: Set = None,
    params: ParamsFile = Path("params.yaml"),
    runs_dir: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """Erasure requests: each one's state, derived from the registry."""
    if context.invoked_subcommand is not None:
        return
    project, _ = _project(params, set_, runs_dir)
    from flows.service.status import registry_status

    status = registry_status(project, with_champions=False)
    if as_json:
        print(json.dumps({key: status[key] for key in ("requests", "counts")}, indent=2))
    else:
        _show_requests(status["requests"])
    _warn(status["requests"])


@requests.command(
    epilog='Example: fade requests add --concept panda --reason "licence ended" --by ann --due 2026-12-31'
)
def add(
    concept: Annotated[str, typer.Option(help="The concept to erase, a name of the data set's vocabulary.")],
    reason: Annotated[str, typer.Option(help="Why.")],
    by: Annotated[
        str, typer.Option(help="Who asks (default: the user of this machine).", envvar="FADE_USER")
    ] = "",
    due: Annotated[str | None, typer.Option(help="Until when: 2026-12-31.")] = None,
    name: Annotated[
        str | None, typer.Option("--id", help="Its id, given once (default: CONCEPT-DATE).")
    ] = None,
    replacement: Annotated[
        str, typer.Option(help="The concept that takes its place, for methods that have one.")
    ] = "",
    method: Annotated[str, typer.Option(help="NAME or NAME/VARIANT (default: params.yaml's).")] = "",
    threshold: Annotated[
        list[str] | None, typer.Option(help="erased=99: a key of `gate`, only for this request.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", help="train.steps=500: a parameter, only for this request."),
    ] = None,
    params: ParamsFile = Path("params.yaml"),
    runs_dir: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """Add a request to the ledger: checked, at its end, everything else left as it is."""
    import getpass

    project, _ = _project(params, None, runs_dir)
    from tasks.requests.project import add_request

    fields = {
        "id": name,
        "concept": concept,
        "reason": reason,
        "requested_by": by or getpass.getuser(),
        "due": due,
    }
    chosen = {
        "replacement": replacement,
        "method": method,
        "set": set_ or [],
        "thresholds": _pairs(threshold or []),
    }
    done = add_request(project, {**fields, **chosen})
    if as_json:
        print(json.dumps(done.to_json(), indent=2))
    else:
        print(
            f"{done.id}: {done.concept}, asked for by {done.requested_by}"
            + (f", due {done.due}" if done.due else "")
        )


@requests.command(
    epilog="Example: fade requests run    or, whatever became of it before: fade requests run panda-2026"
)
def run(
    ids: Annotated[
        list[str] | None,
        typer.Argument(help="Requests to work off, also those that failed; none: all open ones."),
    ] = None,
    set_: Set = None,
    params: ParamsFile = Path("params.yaml"),
    runs_dir: Runs = Path("runs"),
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Work off open requests now, as the scheduler does: each is claimed, erased and reported. Exit code 1
    when one failed."""
    project, settings = _project(params, set_, runs_dir, verbose)
    for one in ids or []:
        project.requests(settings).get(one)
    from flows.server import runtime

    runtime.join(runs_dir)
    runtime.serve(whole=True)
    runtime.await_server()
    runtime.reach()
    from fade.errors import RequestError
    from flows.server.gpu_slot import ensure_gpu_limit
    from flows.service.process_requests import process_requests

    ensure_gpu_limit(settings, change=False)
    failed = None
    with bars(as_json):
        try:
            result = runtime.run(
                process_requests,
                params_file=str(params),
                runs=str(runs_dir),
                overrides=list(project.overrides),
                only=ids or [],
            )
        except RequestError as error:
            if not isinstance(error.result, dict):
                raise
            result, failed = error.result, error
    if as_json:
        print(json.dumps(result, indent=2))
    elif result["outcomes"]:
        rows = [
            [o["id"], o["concept"], o["result"], o["version"], o["text"], f"{o['seconds']:.0f} s"]
            for o in result["outcomes"]
        ]
        show_rows(
            f"{len(rows)} request(s) worked off",
            ["request", "concept", "result", "version", "why", "took"],
            rows,
        )
    else:
        print("nothing is open")
    if failed is not None:
        raise failed


@app.command(
    epilog="Example: fade serve    or, beside a Prefect server: PREFECT_API_URL=http://prefect:4200/api "
    "fade serve"
)
def serve(
    set_: Set = None,
    params: ParamsFile = Path("params.yaml"),
    runs_dir: Runs = Path("runs"),
) -> None:
    """Run the scheduler until it is stopped: open requests, re-evaluation of champions, the audit; each by
    its cron (`schedule`)."""
    project, settings = _project(params, set_, runs_dir, verbose=True)
    from flows.service.serve import serve as serve_deployments

    serve_deployments(project, settings, say)


@app.command(epilog="Example: fade status --json")
def status(
    set_: Set = None,
    params: ParamsFile = Path("params.yaml"),
    runs_dir: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """What ran, what runs, what waits, what failed and why; open and overdue requests; champions and stale
    ones."""
    project, _ = _project(params, set_, runs_dir)
    from fade.errors import OrchestrationError
    from flows.server import runtime
    from flows.service.status import prefect_status, registry_status

    found = registry_status(project)
    if runtime.join(runs_dir):
        try:
            runtime.reach()
            found["prefect"] = prefect_status()
        except OrchestrationError as error:  # what the registry knows is shown all the same
            found["prefect"] = {"error": str(error)}
    else:
        found["prefect"] = {
            "error": "no scheduler runs here: start `fade serve`, or name its server in PREFECT_API_URL."
        }
    if as_json:
        print(json.dumps(found, indent=2))
        return
    _show_runs(found["prefect"])
    _show_requests(found["requests"])
    if found["champions"]:
        rows = [
            [f"{c['model']}/{c['version']}", _holds(c["passes"]), c["reevaluated"], c["stale"] or c["why"]]
            for c in found["champions"]
        ]
        show_rows("champions", ["version", "passes", "re-evaluated", "why not"], rows)
    _warn(found["requests"])


def _project(
    params: Path, overrides: list[str] | None, runs: Path, verbose: bool = False
) -> tuple[Project, Params]:
    settings, _ = resolved(params, overrides)
    prepared(settings, runs, params.parent, verbose)
    from tasks.requests.project import Project

    return Project(params, runs, tuple(overrides or ())), settings


def _pairs(texts: Sequence[str]) -> dict[str, float]:
    from fade.errors import UsageError

    out = {}
    for text in texts:
        key, _, value = text.partition("=")
        try:
            out[key] = float(value)
        except ValueError:
            raise UsageError(
                f"{text!r} is no key=number.", stage="requests", action="write --threshold erased=99."
            ) from None
    return out


def _show_requests(found: Sequence[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{len(found)} request(s)")
    for column in ("request", "concept", "state", "due", "by", "why"):
        table.add_column(column, overflow="fold")
    for one in found:
        state = one["state"] + (", overdue" if one["overdue"] else "")
        words = [one["id"], one["concept"], state, one["due"], one["requested_by"], one["detail"]]
        table.add_row(*map(escape, words), style="bold red" if one["overdue"] else _COLOURS.get(one["state"]))
    Console().print(table)


def _show_runs(status: dict[str, Any]) -> None:
    if "error" in status:
        say(f"[yellow]scheduler[/]   {escape(status['error'])}")
        return
    rows = []
    for one in status["deployments"]:
        label = f"{one['flow']}/{one['name']}"
        head = [label, "paused" if one["paused"] else ", ".join(one["crons"]) or "no cron"]
        shown = [*one["running"], *one["last"], *one["waiting"][:1]]
        rows += [[*head, run["state"], run["at"], run["why"]] for run in shown] or [
            [*head, "never ran", "", ""]
        ]
    show_rows(f"scheduler at {status['url']}", ["deployment", "cron", "run", "at", "why"], rows)


def _warn(found: Sequence[dict[str, Any]]) -> None:
    """The loud warning: a request that vanished from the file, or cannot be read there."""
    for one in found:
        if one["state"] in ("missing", "faulty"):
            say(f"[bold red]{one['state']}[/] request {escape(one['id'])}: {escape(one['detail'])}")


def _holds(passes: bool | None) -> str:
    return {True: "yes", False: "NO", None: "?"}[passes]
