"""Pictures: generated, purified, and searched for nudity."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from fade.utils.seeds import MAX_SEED
from flows.cli.app import app
from flows.cli.options import (
    PARAMS,
    RUNS,
    AdapterOption,
    Json,
    ParamsFile,
    Runs,
    Set,
    World,
    name_option,
    prompt_option,
    run_context,
    with_world,
)
from flows.cli.output import emit, show_words
from flows.cli.screen import bars, print_line, print_note, show_rows


@app.command(epilog='Example: fade generate "a panda" --model base -n 8 --out grid.png')
def generate(
    prompt: Annotated[str, Argument(help="What to draw.", callback=prompt_option)],
    model: str = Option("base", help="base, NAME/VERSION or NAME of a registered model, or an adapter file."),
    n: int = Option(8, "-n", min=1, max=1024, help="Pictures."),
    seed: int = Option(0, min=-MAX_SEED, max=MAX_SEED, help="Seed of the first picture."),
    out: Path = Option(Path("grid.png"), help="The PNG file."),
    gate: bool = Option(
        False, "--gate", help="Let the adapter act as much as the prompt means its concept (spm)."
    ),
    world: World = None,
    set_: Set = None,
    params: ParamsFile = PARAMS,
    runs_dir: Runs = RUNS,
) -> None:
    """Draw a grid of pictures with the original model or with an erased one."""
    run = run_context(params, with_world(params, world, set_), runs_dir)
    from tasks.stages.generate import generate as generate_grid

    with bars(False):
        strength = generate_grid(run, prompt, model, n, seed, out, gate=gate)
    if gate:
        print_note(
            f"gated: the adapter acts at {strength:.2f} of its strength; who has the weights can leave "
            "the gate out."
        )
    print_line(str(out))


@app.command(epilog="Example: fade purify data/emoji/noto/panda.png --model fade-panda/1")
def purify(
    picture: Annotated[Path, Argument(help="The picture to purify: PNG, JPEG or WebP.")],
    model: AdapterOption,
    concept: str | None = Option(
        None, help="What to take out; without it, what the adapter erased.", callback=name_option
    ),
    out: Path = Option(Path("purified.png"), help="The PNG file: input, control and purified side by side."),
    world: World = None,
    set_: Set = None,
    params: ParamsFile = PARAMS,
    runs_dir: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Invert a real picture and draw it again with an erased model, beside the round trip of the original
    model."""
    run = run_context(params, with_world(params, world, set_), runs_dir)
    from tasks.stages.purify import purify as purify_picture

    with bars(as_json):
        result = purify_picture(run, picture, model, concept, out)
    emit(result, as_json, _show_purified)


def _show_purified(result: dict[str, Any]) -> None:
    concept = result["concept"]
    rows = [
        [name, f"{result[name]['probability']:.3f}", result[name]["top1"], f"{result[name]['ssim']:.3f}"]
        for name in ("input", "control", "purified")
    ]
    head = ["", f"probability of {concept}", "judged to be", "SSIM to the input"]
    show_words(f"{concept} in {Path(result['picture']).name}", head, rows)
    print_line(result["out"])


@app.command(epilog="Example: fade nudity i2p_benchmark.csv --model fade-nudity/1 --protocol spm --nude")
def nudity(
    prompts: Annotated[
        Path, Argument(help="A text file with a prompt a line, or a CSV as I2P's, ESD's, or an import's.")
    ],
    model: AdapterOption,
    limit: int | None = Option(None, min=1, help="Only the first so many prompts."),
    protocol: str = Option("ours", help="ours, spm, i2p or esd: what is drawn, and what is counted."),
    seeds: str = Option("table", help="rows: of a table without seeds, row i starts from the noise i."),
    category: str = Option("", help="Only prompts of this category of I2P's: sexual."),
    nude: bool = Option(False, "--nude", help="Only prompts with a nudity_percentage above 0."),
    lenient: bool = Option(False, "--lenient", help="Leave out rows without a prompt; they are recorded."),
    world: World = None,
    set_: Set = None,
    params: ParamsFile = PARAMS,
    runs_dir: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Count nudity in what prompts bring out of the original model and of an erased one (the extra
    `nudity`)."""
    if seeds not in ("table", "rows"):
        from fade.errors import UsageError

        what = f"--seeds {seeds!r} is neither table nor rows."
        raise UsageError(what, stage="nudity", action="leave it out, or write --seeds rows.")
    run = run_context(params, with_world(params, world, set_), runs_dir)
    from tasks.stages.nudity import NudityOptions
    from tasks.stages.nudity import nudity as count_nudity

    options = NudityOptions(
        protocol=protocol,
        limit=limit,
        seeds="rows" if seeds == "rows" else "table",
        category=category,
        nude=nude,
        lenient=lenient,
    )
    with bars(as_json):
        result = count_nudity(run, prompts, model, options)
    emit(result, as_json, partial(_show_nudity, prompts.name))


def _show_nudity(name: str, result: dict[str, Any]) -> None:
    from fade.reporting.nudity import HEAD, count_rows, protocol_rows

    base, protocol = result["base"], result["protocol"]
    detector = f"{base['detector']} {base['version']}, threshold {base['threshold']:g}"
    show_rows(f"{name}, n = {base['n']}", ["", "original", "erased"], count_rows(result), detector)
    show_words(f"protocol {protocol['name']}: {protocol['title']}", HEAD, protocol_rows(protocol))
    print_line(protocol["scale"], f"scores      {result['scores']}", f"report      {result['report']}")
