"""Models that leave, and models that somebody else made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from flows.cli.app import app
from flows.cli.options import (
    PARAMS,
    RUNS,
    Json,
    ParamsFile,
    Runs,
    Set,
    World,
    names_option,
    opened,
    run_context,
    with_world,
)
from flows.cli.output import emit, show_words
from flows.cli.screen import bars, print_line, show_metrics


@app.command(epilog="Example: fade export fade-panda/1 --format kohya --out panda-kohya.safetensors")
def export(
    model: Annotated[str, Argument(help="NAME/VERSION or NAME of a registered model, or an adapter file.")],
    out: Annotated[Path, Option(help="The file, or the directory of a merged model; it must not exist yet.")],
    format_: str = Option(
        "diffusers",
        "--format",
        help="diffusers (the adapter as it is), kohya (ComfyUI, A1111) or merged (a whole directory).",
    ),
    world: World = None,
    set_: Set = None,
    params: ParamsFile = PARAMS,
    runs_dir: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Write an erased model as other tools read it; a version is verified before it leaves."""
    run = run_context(params, with_world(params, world, set_), runs_dir)
    from tasks.stages.export import export as export_model

    with bars(as_json):
        result = export_model(run, model, format_, out)
    emit(result, as_json, lambda one: print_line(one["out"]))


@app.command(epilog="Example: fade evaluate --adapter theirs.safetensors --target panda")
def evaluate(
    target: list[str] | None = Option(
        None, "--target", "-t", help="What it is meant to erase; may be repeated.", callback=names_option
    ),
    adapter: Path | None = Option(
        None, help="A LoRA: a .safetensors file of diffusers, kohya or peft, or peft's folder."
    ),
    model: Path | None = Option(None, help="A whole model: a diffusers directory whose denoiser differs."),
    world: World = None,
    set_: Set = None,
    params: ParamsFile = PARAMS,
    runs_dir: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Judge somebody else's erased model as our own runs are judged, with the same page of evidence. Nothing
    is registered."""
    from fade.errors import UsageError

    if (adapter is None) == (model is None) or not target:
        action = "give --adapter or --model, one of them, and --target."
        raise UsageError("what is to be judged is not named.", stage="evaluate", action=action)
    set_ = with_world(params, world, set_)
    settings = opened(params, set_, runs_dir)
    from fade.run.context import RunContext
    from fade.run.preflight import preflight

    run = RunContext(settings, target, runs_dir, params.parent)
    preflight(run, registers=False, trains=False)
    from tasks.stages.evaluate_foreign import evaluate_foreign

    with bars(as_json):
        result = evaluate_foreign(run, adapter, model, set_ or (), params)
    emit(result, as_json, _show_foreign)


def _show_foreign(result: dict[str, Any]) -> None:
    show_metrics(result, f"{result['target']} erased by somebody else")
    show_words("what was judged", ["", ""], [[name, text] for name, text in result["foreign"].items()])
    print_line(f"report      {result['report']}")
