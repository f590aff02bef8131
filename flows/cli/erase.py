"""Erasing: the main job and its parts."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli.app import app
from flows.cli.options import (
    Json,
    ParamsFile,
    Runs,
    Set,
    Target,
    Targets,
    Verbose,
    prepared,
    resolved,
    run_context,
)
from flows.cli.screen import bars, escape, say, show_metrics


@app.command(epilog='Example: fade run --target "panda" --target "lemon" --set train.steps=200')
def run(
    target: Targets = None,
    style: Annotated[
        str | None, typer.Option(help="Erase a style (noto) instead; --replacement then names another.")
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="NAME or NAME/VARIANT of the erasing method, see `fade methods`.")
    ] = None,
    replacement: Annotated[
        str | None, typer.Option(help="The concept that takes the target's place (surgical).")
    ] = None,
    anchors: Annotated[
        str | None, typer.Option(help="neighbourhood: give a method without neighbours FADE's.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The training's seed.")] = None,
    set_: Set = None,
    params: ParamsFile = Path("params.yaml"),
    runs_dir: Runs = Path("runs"),
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """The main job: pull, validate, mine, train, evaluate, register."""
    named = {"method__replacement": replacement, "method__anchors": anchors, "train__seed": seed}
    settings, overrides = resolved(params, set_, method=method, style=_styled(style, target), **named)
    prepared(settings, runs_dir, params.parent, verbose)
    from fade.run.context import RunContext
    from fade.run.preflight import preflight
    from fade.run.resolve_params import ignored_settings
    from flows.server import runtime

    for sentence in ignored_settings(params, overrides):
        say(f"[yellow]{escape(sentence)}[/]")
    targets = [style] if style else target or ["panda"]
    context = RunContext(settings, targets, runs_dir, params.parent)
    preflight(context)
    runtime.start()
    from flows.erase import erase
    from flows.server.gpu_slot import gpu_slot_if_limited

    with bars(as_json):
        values = settings.model_dump(mode="json", by_alias=True)
        where = {"runs": str(runs_dir), "root": str(params.parent), "params_file": str(params)}
        result = runtime.run(
            erase,
            within=partial(gpu_slot_if_limited, settings),
            target=targets,
            params=values,
            overrides=overrides,
            **where,
        )
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        _show_result(result)


def _styled(style: str | None, target: list[str] | None) -> bool:
    """Whether a style is to be erased. Raises UsageError when a concept is named, too."""
    from fade.errors import UsageError

    if style is not None and target:
        raise UsageError(
            "--style and --target are both given.",
            stage="config",
            action="erase one of them, then compose the two.",
        )
    return style is not None


def _show_result(result: dict[str, Any]) -> None:
    from rich.console import Console

    out = Console()
    show_metrics(
        result, f"{result['target']} erased by {result['method']}/{result['variant']}, seed {result['seed']}"
    )
    out.print(
        f"neighbours  {', '.join(result['neighbours'])}\nheld out    {', '.join(result['heldout'])}",
        soft_wrap=True,
    )
    seconds = result["seconds"]
    out.print(
        "seconds     " + ", ".join(f"{name} {value:.1f}" for name, value in seconds.items()), soft_wrap=True
    )
    computing = ", ".join(f"{name} {value:.1f}" for name, value in result["computing_seconds"].items())
    out.print(
        f"            {sum(result['computing_seconds'].values()):.1f} of them computing: {computing}",
        soft_wrap=True,
    )
    if result["warnings"]:
        out.print(f"[yellow]warnings[/]    {', '.join(result['warnings'])}")
    out.print(
        f"registered  {result['model_name']} version {result['model_version']}\nreport      "
        f"{result['report']}",
        soft_wrap=True,
    )


@app.command(epilog='Example: fade mine --target "tulip" --json')
def mine(
    target: Target,
    set_: Set = None,
    params: ParamsFile = Path("params.yaml"),
    runs_dir: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """The target's Concept Neighborhood: its nearest concepts by the pictures that the model makes."""
    context = run_context(params, set_, runs_dir, target)
    from tasks.stages.mine import mine as mine_neighbourhood

    with bars(as_json):
        neighborhood = mine_neighbourhood(context)
    if as_json:
        print(json.dumps(neighborhood.to_json(), indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"neighbourhood of {target}")
    for column in ("concept", "cosine", "role"):
        table.add_column(column)
    roles = {
        **dict.fromkeys(neighborhood.neighbours, "neighbour"),
        **dict.fromkeys(neighborhood.heldout, "held out"),
    }
    for name in [*neighborhood.neighbours, *neighborhood.heldout]:
        table.add_row(name, f"{neighborhood.similarities[name]:.3f}", roles[name])
    Console().print(table)


@app.command(epilog="Example: fade compose fade-panda/1 fade-lemon/1 --out both.safetensors")
def compose(
    models: Annotated[
        list[str], typer.Argument(help="Registered versions, adapter files or folders of runs; two or more.")
    ],
    out: Annotated[Path, typer.Option(help="The composed adapter; its evaluation lies beside it.")] = Path(
        "composed.safetensors"
    ),
    set_: Set = None,
    params: ParamsFile = Path("params.yaml"),
    runs_dir: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """Add up adapters that were trained apart, and judge the sum: each concept gone, each neighbour still
    there."""
    settings, _ = resolved(params, set_)
    prepared(settings, runs_dir, params.parent)
    from tasks.stages.compose import compose as add_up

    with bars(as_json):
        result = add_up(settings, models, out, runs_dir, params.parent)
    if as_json:
        print(json.dumps(result, indent=2))
        return
    show_metrics(result, f"{result['target']}: {len(models)} adapters composed")
    print(result["adapter"])
