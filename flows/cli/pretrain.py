"""Data, the embedded world, and the machine."""

from __future__ import annotations

import enum
import json
from pathlib import Path
from typing import Any

import typer
from typer import Option

from flows.cli.app import app
from flows.cli.options import PARAMS, RUNS, Json, ParamsFile, Runs, Set, World, opened, with_world
from flows.cli.output import emit, show_words
from flows.cli.screen import bars, escape, print_line, print_markup, print_note


class Family(enum.StrEnum):
    """Families that have an embedded world."""

    SD = "sd"
    SDXL = "sdxl"
    SD3 = "sd3"


@app.command(epilog="Example: fade pull    or: fade pull --world emoji")
def pull(
    params: ParamsFile = PARAMS,
    runs_dir: Runs = RUNS,
    world: World = None,
    set_: Set = None,
    force: bool = Option(
        False, "--force", help="Set files aside that were changed here, instead of refusing."
    ),
) -> None:
    """Fetch the data set, the base and the judge; every file is rehashed."""
    settings = opened(params, with_world(params, world, set_, pulls=True), runs_dir)
    from tasks.data.pull import pull as pull_data

    pulled = pull_data(settings.data, params.parent, runs_dir, force=force)
    md5s = ", ".join(pulled.dvc_files.values())
    print_line(f"{pulled.path}: {pulled.nfiles} files, {pulled.size / 1e6:.1f} MB, md5 {md5s}")


@app.command(epilog="Example: fade worlds --json")
def worlds(params: ParamsFile = PARAMS, as_json: Json = False) -> None:
    """The embedded worlds of params.yaml: the data of each by md5, its size, and whether it is here, byte by
    byte."""
    from fade.run.resolve_params import load_params
    from fade.run.worlds import list_worlds

    emit(list_worlds(load_params(params), params.parent), as_json, _show_worlds)


def _show_worlds(rows: list[dict[str, Any]]) -> None:
    listed = [
        [
            f"{row['name']}{' (default)' if row['default'] else ''}",
            row["state"],
            f"{row['size'] / 1e6:.1f} MB" if row["size"] else "",
            ", ".join(f"{file} {md5}" for file, md5 in row["dvc_files"].items()),
        ]
        for row in rows
    ]
    show_words(f"{len(rows)} world(s)", ["world", "state", "size", "data"], listed)
    for row in rows:
        if row["why"]:
            print_note(f"[bold red]{escape(row['name'])}[/] {escape(row['why'])}")


@app.command(epilog="Example: fade pretrain --family sdxl --set pretrain.unet_xl.steps=6000")
def pretrain(
    set_: Set = None,
    params: ParamsFile = PARAMS,
    runs_dir: Runs = RUNS,
    family: Family = Option(Family.SD, help="Which family's world; sdxl and sd3 stand on sd's."),
    parts: Path | None = Option(
        None,
        help="Folder of a finished world: its pictures, CLIP, autoencoder and judges are taken as they are "
        "(default for sdxl and sd3: data).",
    ),
    publish: bool = Option(False, help="Track the result with DVC and push it to the embedded remote."),
) -> None:
    """Rebuild an embedded world: drawings, text towers, CLIP, autoencoder, judges, denoiser. Resumes where it
    was stopped."""
    settings = opened(params, set_, runs_dir)
    from fade.run.context import RunContext
    from fade.run.preflight import check_machine

    check_machine(RunContext(settings, (), runs_dir, params.parent))
    from flows import pretrain as flow
    from flows.server import runtime

    values = settings.model_dump(mode="json", by_alias=True)
    options: dict[str, Any] = {"runs": str(runs_dir), "root": str(params.parent), "family": family.value}
    options["parts"] = str(parts) if parts else None
    with bars(False):
        result = runtime.run(flow.pretrain, params=values, publish=publish, **options)
    print(json.dumps(result, indent=2))
    if not publish:
        print_note(
            "The new world is in its folder, but its .dvc file still names the old one: publish it with "
            "[bold]fade pretrain --publish[/]."
        )


@app.command(epilog="Example: fade doctor")
def doctor(params: ParamsFile = PARAMS, runs_dir: Runs = RUNS) -> None:
    """Is this machine ready? Python, libraries, data, models, folders, servers; what to do where it is
    not."""
    from flows.service.doctor import examine

    ready = True
    for finding in examine(params, runs_dir):
        ready &= finding.ok
        mark = "[green]ok  [/]" if finding.ok else "[bold red]FAIL[/]"
        print_markup(f"{mark} {finding.name}: {escape(finding.text)}")
    if not ready:
        raise typer.Exit(1)
