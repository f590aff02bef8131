"""A project of one's own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from flows.cli.app import app
from flows.cli.options import Json
from flows.cli.output import emit
from flows.cli.screen import escape, print_line, print_note

QUESTIONS = {
    "base": "The model that is to forget (a diffusers directory, or a hub id owner/name@REVISION)",
    "images": "The folder of imported pictures (fade data import)",
    "judge": "The classifier that knows their concepts (fade judge train, fade judge import)",
    "clip": "The CLIP that mines neighbours (a directory, or a hub id owner/name@REVISION)",
}


@app.command(
    epilog="Example: fade init pets --base models/sd15 --images sets/pets --judge judges/pets --clip "
    "models/clip"
)
def init(
    folder: Annotated[Path, Argument(help="Folder of the new project; it is made.")],
    base: str = Option("", help="The model that is to forget: a diffusers directory, or a pinned hub id."),
    images: str = Option("", help="Folder of imported pictures, with its manifest.csv."),
    judge: str = Option("", help="The classifier that knows their concepts."),
    clip: str = Option("", help="The CLIP that mines neighbours."),
    family: str = Option("", help="Family of a base that is a hub id: sd, sdxl, sd3 or flux."),
    licence: list[str] | None = Option(
        None,
        help="Licence that pictures may have, as an SPDX id; may be repeated (default: their manifest's).",
    ),
    name: str = Option("fade", help="Prefix of the registered models."),
    as_json: Json = False,
) -> None:
    """Make the folder of a project for your own model and pictures: params.yaml with the family's settings,
    .dvc, requests.yaml, .gitignore. What is not given is asked for on a terminal."""
    given = {"base": base, "images": images, "judge": judge, "clip": clip}
    missing = [key for key, value in given.items() if not value]
    if missing and not sys.stdin.isatty():
        from fade.errors import UsageError

        what = f"--{', --'.join(missing)} not given."
        raise UsageError(what, stage="init", action="give them, or run the command on a terminal.")
    for key in missing:
        given[key] = typer.prompt(QUESTIONS[key])
    from flows.service.new_project import ProjectOptions, create_project

    options = ProjectOptions(
        given["base"], Path(given["images"]), given["judge"], given["clip"], family, name
    )
    emit(create_project(folder, options), as_json, _show_project)


def _show_project(made: dict[str, Any]) -> None:
    print_line(f"project     {made['folder']} ({made['family']}): {', '.join(made['files'])}")
    print_note(f"Next: cd {escape(made['folder'])} && fade doctor")
