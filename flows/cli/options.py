"""What several commands ask for, and what they make of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from fade.config import Params
    from fade.run.context import RunContext

Target = Annotated[
    str, typer.Option("--target", "-t", help="The concept to erase, a name of the data set's vocabulary.")
]
Targets = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        "-t",
        help="The concept to erase (panda); several times: erased together, in one training.",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", help="Override a parameter: train.steps=200. Recorded in the lineage."),
]
ParamsFile = Annotated[Path, typer.Option("--params", help="The parameter file.")]
Runs = Annotated[
    Path,
    typer.Option("--runs-dir", envvar="FADE_RUNS_DIR", help="Everything that a run writes lies below it."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show the tools' own logs.")]


def resolved(path: Path, overrides: list[str] | None, **named: Any) -> tuple[Params, list[str]]:
    """The parameters, and every override in the form that the lineage records."""
    from fade.run.resolve_params import method_overrides, resolve

    chosen = method_overrides(named.pop("method", None))
    if named.pop("style", False):
        chosen = [*resolve(path).styles.settings, *chosen]
    overrides = [
        *chosen,
        *(f"{key.replace('__', '.')}={value}" for key, value in named.items() if value is not None),
        *(overrides or []),
    ]
    return resolve(path, overrides), overrides


def prepared(params: Params, runs: Path, root: Path, verbose: bool = False) -> None:
    """Quiet tools, folders, no network; the hub is open only where a model is named that does not lie
    here."""
    from flows.server.runtime import prepare

    models = (params.data.base, params.data.clip, params.data.judge)
    hub = any(
        not (root / m).exists() and m.count("/") == 1 and not m.startswith(("data/", ".", "/"))
        for m in models
    )
    prepare(runs, verbose=verbose, hub=hub)


def run_context(params: Path, overrides: list[str] | None, runs: Path, target: str = "") -> RunContext:
    """The parameters' run_context, the tools prepared: what a command needs that runs one task."""
    settings, _ = resolved(params, overrides)
    prepared(settings, runs, params.parent)
    from fade.run.context import RunContext

    return RunContext(settings, target, runs, params.parent)
