"""Data, the embedded world, and the machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.app import app
from flows.cli.options import ParamsFile, Runs, Set, prepared, resolved
from flows.cli.screen import bars, escape, say


@app.command(epilog="Example: fade pull")
def pull(
    params: ParamsFile = Path("params.yaml"),
    runs_dir: Runs = Path("runs"),
    set_: Set = None,
    force: Annotated[
        bool, typer.Option("--force", help="Set files aside that were changed here, instead of refusing.")
    ] = False,
) -> None:
    """Fetch the data set, the base and the judge; every file is rehashed."""
    settings, _ = resolved(params, set_)
    prepared(settings, runs_dir, params.parent)
    from tasks.data.pull import pull as fetch

    done = fetch(settings.data, params.parent, runs_dir, force=force)
    print(f"{done.path}: {done.nfiles} files, {done.size / 1e6:.1f} MB, md5 {done.md5}")


@app.command(epilog="Example: fade pretrain --set pretrain.unet.steps=6000")
def pretrain(
    set_: Set = None,
    params: ParamsFile = Path("params.yaml"),
    runs_dir: Runs = Path("runs"),
    publish: Annotated[
        bool, typer.Option(help="Track the result with DVC and push it to the embedded remote.")
    ] = False,
) -> None:
    """Rebuild the embedded world: drawings, CLIP, autoencoder, UNet, judge. Resumes where it was stopped."""
    settings, _ = resolved(params, set_)
    prepared(settings, runs_dir, params.parent)
    from flows.pretrain import pretrain as build
    from flows.server import runtime

    with bars(False):
        values = settings.model_dump(mode="json", by_alias=True)
        result = runtime.run(
            build, params=values, runs=str(runs_dir), root=str(params.parent), publish=publish
        )
    print(json.dumps(result, indent=2))
    if not publish:
        say(
            "data/ is the new world, but data.dvc still names the old one: publish it with [bold]fade "
            "pretrain --publish[/]."
        )


@app.command(epilog="Example: fade doctor")
def doctor(params: ParamsFile = Path("params.yaml"), runs_dir: Runs = Path("runs")) -> None:
    """Is this machine ready? Python, libraries, data, models, folders, servers; what to do where it is
    not."""
    from rich.console import Console

    from flows.service.doctor import examine

    out, ready = Console(), True
    for finding in examine(params, runs_dir):
        ready &= finding.ok
        out.print(
            f"[{'green' if finding.ok else 'bold red'}]{'ok  ' if finding.ok else 'FAIL'}[/] "
            f"{finding.name}: {escape(finding.text)}"
        )
    if not ready:
        raise typer.Exit(1)
