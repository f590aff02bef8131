"""The static site of the registry, and its verification."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from flows.cli.app import app
from flows.cli.options import PARAMS, RUNS, Json, ParamsFile, Runs, Set, opened
from flows.cli.output import emit
from flows.cli.screen import bars, escape, print_line, print_note, show_rows

site = typer.Typer(
    invoke_without_command=True,
    help="Static pages of the registry, for the team and for an auditor; `verify` checks such a folder.",
)
app.add_typer(
    site,
    name="site",
    epilog="Example: fade site --out public    or: fade site verify public --public-key team.pub",
)


@site.callback()
def made(
    context: typer.Context,
    out: Path = Option(Path("site"), help="Folder of the site; a site that is there is replaced."),
    benchmark: Path | None = Option(None, help="Folder of a benchmark's report (default: bench/record)."),
    no_pictures: bool = Option(False, "--no-pictures", help="Leave the versions' picture grids out."),
    set_: Set = None,
    params: ParamsFile = PARAMS,
    runs_dir: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Static pages of the registry: requests, champions, versions, releases, audits, lineage, and the
    evidence for an auditor. No network, no server."""
    if context.invoked_subcommand is not None:
        return
    opened(params, set_, runs_dir)
    from flows.site import make_site
    from tasks.requests.project import Project

    project = Project(params, runs_dir, tuple(set_ or ()))
    with bars(as_json):
        result = make_site(project, out, benchmark=benchmark, pictures=not no_pictures)
    emit(result, as_json, _show)
    for problem in result["problems"]:
        print_note(f"[bold red]unreadable[/] {escape(problem['what'])}: {escape(problem['why'])}")


def _show(result: dict[str, Any]) -> None:
    print_line(
        f"{result['folder']}/index.html: {result['requests']} request(s), {result['versions']} version(s), "
        f"{result['files']} files, {'signed' if result['signed'] else 'not signed'}"
    )


@site.command(epilog="Example: fade site verify public --public-key team.pub")
def verify(
    folder: Annotated[Path, Argument(help="The folder that `fade site` wrote.")],
    public_key: Path | None = Option(
        None, "--public-key", help="The team's public key; not the one in the folder."
    ),
    as_json: Json = False,
) -> None:
    """Check a site without the registry: every file, its signature, the chains of the logs, the records, and
    that every page shows what the evidence holds."""
    from flows.site import verify_site

    rows = verify_site(folder, "" if public_key is None else str(public_key))

    def show(results: list[dict[str, str]]) -> None:
        show_rows(f"{folder} verified", ["", "found"], [[row["what"], row["found"]] for row in results])

    emit(rows, as_json, show)
