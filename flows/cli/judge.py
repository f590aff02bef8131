"""Judges: somebody else's classifier as one, or one that is trained on a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from flows.cli.app import app
from flows.cli.options import PARAMS, RUNS, Json, ParamsFile, Runs, Set, opened, prepare
from flows.cli.output import emit
from flows.cli.screen import bars, escape, print_line, print_note, show_rows

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
WORST = 10
"""Concepts and pairs that are printed; evaluation.json has all."""


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
    print_note(f"Next: `fade run --set data.judge={escape(result['out'])}`.")


@judge.command(
    epilog="Example: fade judge train sets/dogs --from judges/imagenet --probe    or: fade judge train "
    "data/emoji"
)
def train(
    pictures: Annotated[
        Path, Argument(metavar="SET", help="A folder of pictures with its manifest.csv (train and heldout).")
    ],
    start: Path | None = Option(
        None,
        "--from",
        help="A pretrained judge: a directory of `fade judge import`, or what that reads. Without it a small "
        "network starts from nothing, which small squares (drawings) are enough for.",
    ),
    probe: bool = Option(
        False,
        "--probe",
        help="Train a linear head on its features alone: the whole takes much longer.",
    ),
    out: Path | None = Option(
        None, help="The judge's directory; it must not exist yet (default: judges/ and the name of the set)."
    ),
    set_: Set = None,
    params: ParamsFile = PARAMS,
    runs_dir: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Train a judge on the pictures of a data set, and measure it on those that are held out. Continues where
    it was stopped; its numbers are the section judge of params.yaml."""
    settings = opened(params, set_, runs_dir)
    from tasks.stages.judge import train_judge

    place = out or Path("judges", pictures.resolve().name)
    with bars(as_json):
        what = (pictures, place, start, settings.judge, runs_dir, settings.register_)
        result = train_judge(*what, deadline=settings.train.deadline_seconds, probe=probe)
    emit(result, as_json, _show_trained)


def _show_trained(result: dict[str, Any]) -> None:
    known = [row for row in result["per_class"] if row["top1"] is not None]
    known.sort(key=lambda row: (row["top1"], row["concept"]))
    rows = [[row["concept"], f"{row['top1']:.1f} %", str(row["n"])] for row in known[:WORST]]
    note = f"the {len(rows)} least known of {len(result['per_class'])} concepts"
    title = f"Held out: top-1 {result['top1']:.1f} %, n = {result['n']}"
    show_rows(title, ["concept", "top-1", "pictures"], rows, note)
    pairs = [
        [" / ".join(pair["concepts"]), f"{pair['share']:.1f} %", str(pair["n"])]
        for pair in result["confused"][:WORST]
    ]
    if pairs:
        show_rows("Taken for each other", ["concepts", "mistakes", "pictures"], pairs)
    print_line(
        f"expected calibration error {result['calibration_error']:.1f} %, seed {result['seed']}",
        f"{result['out']}: the judge, evaluation.json, confusion.svg",
    )
