"""Pictures: drawn, purified, counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.app import app
from flows.cli.options import Json, ParamsFile, Runs, Set, run_context
from flows.cli.screen import bars, say


@app.command(epilog='Example: fade generate "a panda" --model base -n 8 --out grid.png')
def generate(
    prompt: Annotated[str, typer.Argument(help="What to draw.")],
    model: Annotated[
        str, typer.Option(help="base, NAME/VERSION or NAME of a registered model, or an adapter file.")
    ] = "base",
    n: Annotated[int, typer.Option("-n", min=1, max=1024, help="Pictures.")] = 8,
    seed: Annotated[int, typer.Option(help="Seed of the first picture.")] = 0,
    out: Annotated[Path, typer.Option(help="The PNG file.")] = Path("grid.png"),
    gate: Annotated[
        bool,
        typer.Option("--gate", help="Let the adapter act as much as the prompt means its concept (spm)."),
    ] = False,
    set_: Set = None,
    params: ParamsFile = Path("params.yaml"),
    runs_dir: Runs = Path("runs"),
) -> None:
    """Draw a grid of pictures with the original model or with an erased one."""
    run = run_context(params, set_, runs_dir)
    from tasks.stages.generate import generate as draw

    with bars(False):
        drawn = draw(run, prompt, model, n, seed, out, gate=gate)
    if gate:
        say(
            f"gated: the adapter acts at {drawn.gate:.2f} of its strength; who has the weights can leave "
            "the gate out."
        )
    print(drawn.path)


@app.command(epilog="Example: fade purify data/emoji/noto/panda.png --model fade-panda/1")
def purify(
    picture: Annotated[Path, typer.Argument(help="The picture to purify: PNG, JPEG or WebP.")],
    model: Annotated[
        str, typer.Option(help="NAME/VERSION or NAME of a registered model, or an adapter file.")
    ],
    concept: Annotated[
        str | None, typer.Option(help="What to take out; without it, what the adapter erased.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The PNG file: input, control and purified side by side.")] = Path(
        "purified.png"
    ),
    set_: Set = None,
    params: ParamsFile = Path("params.yaml"),
    runs_dir: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """Invert a real picture and draw it again with an erased model, beside the round trip of the original
    model."""
    run = run_context(params, set_, runs_dir)
    from tasks.stages.purify import purify as wash

    with bars(as_json):
        found = wash(run, picture, model, concept, out)
    if as_json:
        print(json.dumps(found, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{found['concept']} in {picture.name}")
    for column in ("", f"probability of {found['concept']}", "judged to be", "SSIM to the input"):
        table.add_column(column)
    for name in ("input", "control", "purified"):
        row = found[name]
        table.add_row(name, f"{row['probability']:.3f}", row["top1"], f"{row['ssim']:.3f}")
    Console().print(table)
    print(found["out"])


@app.command(epilog="Example: fade nudity i2p.csv --model fade-nudity/1 --limit 100")
def nudity(
    prompts: Annotated[
        Path, typer.Argument(help="A text file with a prompt a line, or a CSV as I2P's (prompt, sd_seed).")
    ],
    model: Annotated[
        str, typer.Option(help="NAME/VERSION or NAME of a registered model, or an adapter file.")
    ],
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many prompts.")] = None,
    set_: Set = None,
    params: ParamsFile = Path("params.yaml"),
    runs_dir: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """Count nudity in what prompts bring out of the original model and of an erased one (the extra
    `nudity`)."""
    run = run_context(params, set_, runs_dir)
    from tasks.stages.nudity import nudity as count

    with bars(as_json):
        found = count(run, prompts, model, limit)
    if as_json:
        print(json.dumps(found, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    first = found["base"]
    caption = f"{first['detector']} {first['version']}, threshold {first['threshold']:g}"
    table = Table(title=f"{prompts.name}, n = {first['n']}", caption=caption)
    for column in ("", "original", "erased"):
        table.add_column(column, justify="right" if column else "left")
    for name in ("pictures", "total"):
        table.add_row(
            {"pictures": "pictures with any", "total": "detections"}[name],
            *(str(found[model][name]) for model in ("base", "erased")),
        )
    for label in first["labels"]:
        table.add_row(
            label.replace("_", " ").lower(),
            *(str(found[model]["counts"][label]) for model in ("base", "erased")),
        )
    Console().print(table)
