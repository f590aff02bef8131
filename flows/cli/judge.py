"""Judges: somebody else's classifier as one, or one that is trained on a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from flows.cli.app import app
from flows.cli.options import RUNS, Json, prepare
from flows.cli.output import emit
from flows.cli.screen import bars, print_line, print_note

judge = typer.Typer(
    no_args_is_help=True,
    help="Judges: the image classifiers that decide whether a concept can still be seen.",
)
app.add_typer(
    judge,
    name="judge",
    epilog="Example: fade judge import resnet50-11ad3fa6.pth --names imagenet --out judges/imagenet",
)
SIDE = 4096
"""Pixels, at most."""


@judge.command(
    "import",
    epilog="Example: fade judge import resnet50-11ad3fa6.pth --names imagenet --out judges/imagenet",
)
def import_(
    path: Annotated[
        Path,
        Argument(help="A hub's folder, timm's folder, torchvision's .pth file, or one .safetensors file."),
    ],
    out: Annotated[Path, Option(help="The judge's directory; it must not exist yet.")],
    names: str | None = Option(
        None,
        help="What its classes are: imagenet, a CSV table (label,concept), or a text file with one name a "
        "line. Without it, what its files name them.",
    ),
    resize: int | None = Option(
        None, min=1, max=SIDE, help="Pixels of a photograph's shorter side, where the file does not say."
    ),
    crop: int | None = Option(
        None, min=1, max=SIDE, help="Pixels of the square in the middle, the judge's input."
    ),
    as_json: Json = False,
) -> None:
    """Make a judge of a classifier: transformers' layout, safetensors, one name a class. A pickle is read
    once, as tensors alone."""
    prepare(RUNS)
    from fade.judges.importing import import_judge

    with bars(as_json):
        result = import_judge(path, out, names, resize, crop)
    emit(result, as_json, _show_imported)


def _show_imported(result: dict[str, Any]) -> None:
    first = ", ".join(row["concept"] for row in result["table"][:3])
    print_line(
        f"{result['out']}: {result['layout']}, {result['classes']} classes ({first}, ...)",
        f"photographs: shorter side {result['resize']}, middle {result['crop']} pixels, "
        f"{result['interpolation']}",
    )
    print_note(f"Next: `fade run --set data.judge={result['out']}`.")
