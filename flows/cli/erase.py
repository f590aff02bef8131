"""Erasing: the main job and its parts."""

from __future__ import annotations

from functools import partial
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
    Verbose,
    World,
    name_option,
    names_option,
    opened,
    run_context,
    with_world,
)
from flows.cli.output import emit, show_words
from flows.cli.screen import bars, escape, print_line, print_markup, print_note, show_metrics


@app.command(epilog='Example: fade run --target "panda" --target "lemon" --set train.steps=200')
def run(
    target: list[str] | None = Option(
        None,
        "--target",
        "-t",
        help="The concept to erase (panda); several times: erased together, in one training.",
        callback=names_option,
    ),
    style: str | None = Option(
        None, help="Erase a style (noto) instead; --replacement then names another.", callback=name_option
    ),
    method: str | None = Option(None, help="NAME or NAME/VARIANT of the erasing method, see `fade methods`."),
    replacement: str | None = Option(
        None, help="The concept that takes the target's place (surgical).", callback=name_option
    ),
    anchors: str | None = Option(None, help="neighbourhood: give a method without neighbours FADE's."),
    seed: int | None = Option(None, help="The training's seed."),
    world: World = None,
    set_: Set = None,
    params: ParamsFile = PARAMS,
    runs_dir: Runs = RUNS,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """The main job: pull, validate, mine, train, evaluate, register."""
    from fade.errors import UsageError

    if style is not None and target:
        action = "erase one of them, then compose the two."
        raise UsageError("--style and --target are both given.", stage="config", action=action)
    from fade.run.resolve_params import ignored_settings, method_overrides, resolve

    named = {"method.replacement": replacement, "method.anchors": anchors, "train.seed": seed}
    overrides = method_overrides(method)
    overrides += [f"{key}={value}" for key, value in named.items() if value is not None]
    if style is not None:
        own = with_world(params, world, None, pulls=True) or ()  # a world may have styles of its own
        overrides = [*resolve(params, own).styles.settings, *overrides]
    overrides = with_world(params, world, [*overrides, *(set_ or [])], pulls=True) or []
    settings = opened(params, overrides, runs_dir, verbose=verbose)
    from fade.run.context import RunContext
    from fade.run.preflight import preflight
    from flows.server import runtime
    from tasks.registry.connection import check_store
    from tasks.registry.trust import Trust

    for sentence in ignored_settings(params, overrides):
        print_note(f"[yellow]{escape(sentence)}[/]")
    targets = [style] if style else target or ["panda"]
    preflight(RunContext(settings, targets, runs_dir, params.parent))
    Trust.of(settings.signing, params.parent).check_files("the version")
    check_store(runs_dir)
    runtime.start()
    import fade.generation.generator  # noqa: F401 (torch and diffusers load while the server starts)
    from flows.erase import erase
    from flows.server.gpu_slot import gpu_slot_if_limited

    with bars(as_json):
        result = runtime.run(
            erase,
            within=partial(gpu_slot_if_limited, settings),
            target=targets,
            params=settings.model_dump(mode="json", by_alias=True),
            overrides=overrides,
            runs=str(runs_dir),
            root=str(params.parent),
            params_file=str(params),
        )
    emit(result, as_json, _show_run)


def _show_run(result: dict[str, Any]) -> None:
    title = f"{result['target']} erased by {result['method']}/{result['variant']}, seed {result['seed']}"
    show_metrics(result, title)
    computing = result["computing_seconds"]
    print_line(
        f"neighbours  {', '.join(result['neighbours'])}",
        f"held out    {', '.join(result['heldout'])}",
        f"seconds     {_seconds(result['seconds'])}",
        f"            {sum(computing.values()):.1f} of them computing: {_seconds(computing)}",
    )
    if result["warnings"]:
        print_markup(f"[yellow]warnings[/]    {escape(', '.join(result['warnings']))}")
    print_line(
        f"registered  {result['model_name']} version {result['model_version']}",
        f"report      {result['report']}",
    )


def _seconds(stages: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.1f}" for name, value in stages.items())


@app.command(epilog='Example: fade mine --target "tulip" --json')
def mine(
    target: Annotated[
        str,
        Option(
            "--target",
            "-t",
            help="The concept to erase, a name of the data set's vocabulary.",
            callback=name_option,
        ),
    ],
    world: World = None,
    set_: Set = None,
    params: ParamsFile = PARAMS,
    runs_dir: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """The target's Concept Neighborhood: its nearest concepts by the pictures that the model makes."""
    context = run_context(params, with_world(params, world, set_), runs_dir, target)
    from tasks.stages.mine import mine as mine_neighbourhood

    with bars(as_json):
        neighborhood = mine_neighbourhood(context)
    emit(neighborhood.to_json(), as_json, _show_neighbourhood)


def _show_neighbourhood(result: dict[str, Any]) -> None:
    rows = [
        [name, f"{result['similarities'][name]:.3f}", role]
        for role, names in (("neighbour", result["neighbours"]), ("held out", result["heldout"]))
        for name in names
    ]
    title = f"neighbourhood of {result['target']}"
    show_words(title, ["concept", "cosine", "role"], rows)


@app.command(epilog="Example: fade compose fade-panda/1 fade-lemon/1 --out both.safetensors")
def compose(
    models: Annotated[
        list[str], Argument(help="Registered versions, adapter files or folders of runs; two or more.")
    ],
    out: Path = Option(
        Path("composed.safetensors"), help="The composed adapter; its evaluation lies beside it."
    ),
    world: World = None,
    set_: Set = None,
    params: ParamsFile = PARAMS,
    runs_dir: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Add up adapters that were trained apart, and judge the sum: each concept gone, each neighbour still
    there."""
    settings = opened(params, with_world(params, world, set_), runs_dir)
    from tasks.stages.compose import compose as compose_adapters

    with bars(as_json):
        result = compose_adapters(settings, models, out, runs_dir, params.parent)
    emit(result, as_json, _show_composed)


def _show_composed(result: dict[str, Any]) -> None:
    show_metrics(result, f"{result['target']}: {len(result['models'])} adapters composed")
    print_line(result["adapter"])
