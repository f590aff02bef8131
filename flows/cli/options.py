"""Options that several commands share, and what they are resolved to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fade.config import Params
    from fade.run.context import RunContext

PARAMS, RUNS = Path("params.yaml"), Path("runs")

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
By = Annotated[str, typer.Option(help="Who decides (default: the user of this machine).", envvar="FADE_USER")]
ModelName = Annotated[str, typer.Argument(help="NAME of a registered model.")]
AdapterOption = Annotated[
    str, typer.Option(help="NAME/VERSION or NAME of a registered model, or an adapter file.")
]


def prepare(runs: Path, *, verbose: bool = False, hub: bool = False) -> None:
    """`flows.server.runtime.prepare`, which is imported when a command runs."""
    from flows.server import runtime

    runtime.prepare(runs, verbose=verbose, hub=hub)


def opened(
    path: Path,
    overrides: list[str] | None,
    runs: Path,
    *,
    verbose: bool = False,
    method: str | None = None,
    style: bool = False,
    values: Mapping[str, object] | None = None,
) -> tuple[Params, list[str]]:
    """The parameters, and every override in the form that the lineage records; the tools are prepared: quiet,
    no network, the hub open only where a model is named that is not local.

    values: what options of their own set, by the parameter's dotted name; None where one is not given.
    """
    from fade.run.resolve_params import method_overrides, resolve

    named = [f"{key}={value}" for key, value in (values or {}).items() if value is not None]
    settings = resolve(path).styles.settings if style else ()
    effective = [*settings, *method_overrides(method), *named, *(overrides or [])]
    params = resolve(path, effective)
    models = (params.data.base, params.data.clip, params.data.judge)
    hub = any(
        not (path.parent / m).exists() and m.count("/") == 1 and not m.startswith(("data/", ".", "/"))
        for m in models
    )
    prepare(runs, verbose=verbose, hub=hub)
    return params, effective


def run_context(path: Path, overrides: list[str] | None, runs: Path, target: str = "") -> RunContext:
    """The context of a command that runs one task, with the tools prepared."""
    params, _ = opened(path, overrides, runs)
    from fade.run.context import RunContext

    return RunContext(params, target, runs, path.parent)
