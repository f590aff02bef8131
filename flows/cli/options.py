"""Options that several commands share, and what they are resolved to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fade.utils.names import checked_name
from fade.utils.text import LONGEST_PERSON, checked_text

if TYPE_CHECKING:
    from fade.config import Params
    from fade.run.context import RunContext
    from tasks.registry.trust import Trust

PARAMS, RUNS = Path("params.yaml"), Path("runs")

Set = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", help="Override a parameter: train.steps=200. Recorded in the lineage."),
]
World = Annotated[
    str | None,
    typer.Option(
        "--world",
        help="An embedded world by its name (`fade worlds` lists them), for the section `data`.",
    ),
]
ParamsFile = Annotated[Path, typer.Option("--params", help="The parameter file.")]
Runs = Annotated[
    Path,
    typer.Option("--runs-dir", envvar="FADE_RUNS_DIR", help="Everything that a run writes lies below it."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show the tools' own logs.")]


def name_option(value: str | None) -> str | None:
    """Callback of an option that names a concept or style: its normal form. Raises UsageError."""
    return checked_name("name", value, stage="config") if value else value


def names_option(value: list[str] | None) -> list[str] | None:
    """As `name_option`, of an option that may be given several times."""
    return [checked_name("name", one, stage="config") for one in value] if value else value


def text_option(parameter: typer.CallbackParam, value: str | None) -> str | None:
    """Callback of an option that takes free text (a reason): without outer blanks. Raises UsageError for one
    that is too long, blank, or holds control characters."""
    return checked_text(f"--{parameter.name}", value, stage="options") if value else value


def prompt_option(value: str | None) -> str | None:
    """As `text_option`, for a prompt, which may be empty."""
    return checked_text("the prompt", value, stage="options") if value else value


def person_option(parameter: typer.CallbackParam, value: str | None) -> str | None:
    """As `text_option`, for a person: one line, shorter."""
    limits: dict[str, Any] = {"longest": LONGEST_PERSON, "lines": False}
    return checked_text(f"--{parameter.name}", value, stage="options", **limits) if value else value


Reason = Annotated[str, typer.Option(help="Why; recorded for ever.", callback=text_option)]
By = Annotated[
    str,
    typer.Option(
        help="Who decides (default: the user of this machine).", envvar="FADE_USER", callback=person_option
    ),
]
ModelName = Annotated[str, typer.Argument(help="NAME of a registered model.")]
AdapterOption = Annotated[
    str, typer.Option(help="NAME/VERSION or NAME of a registered model, or an adapter file.")
]


def prepare(runs: Path, *, verbose: bool = False, hub: bool = False) -> None:
    """`flows.server.runtime.prepare`, which is imported when a command runs."""
    from flows.server import runtime

    runtime.prepare(runs, verbose=verbose, hub=hub)


def opened(path: Path, overrides: list[str] | None, runs: Path, *, verbose: bool = False) -> Params:
    """The parameters, with the tools prepared: quiet, no network, the hub open only where a model is named
    that is not local."""
    from fade.models.hub import TRACKED
    from fade.run.resolve_params import resolve

    params = resolve(path, overrides or ())
    models = (params.data.base, params.data.clip, params.data.judge, params.data.second_judge)
    hub = any(
        not (path.parent / m).exists() and m.count("/") == 1 and not m.startswith((".", "/", *TRACKED))
        for m in models
    )
    prepare(runs, verbose=verbose, hub=hub)
    return params


def with_world(
    path: Path, world: str | None, overrides: list[str] | None, *, pulls: bool = False
) -> list[str] | None:
    """The overrides of `--world`, then the command's own. A command that ``pulls`` fetches what is missing;
    for any other a world that is not here is refused. Raises UnknownNameError, ConfigError, DataError."""
    if world is None:
        return overrides
    from fade.run.worlds import world_overrides

    return world_overrides(path, world, overrides or (), here=not pulls)


def trust(path: Path, overrides: list[str] | None, runs: Path) -> Trust:
    """The team's keys and witness, from the section `signing` alone, with the tools prepared."""
    from fade.run.read_signing import read_signing

    prepare(runs)
    signing = read_signing(path, overrides or ())
    from tasks.registry.trust import Trust

    return Trust.of(signing, path.parent)


def run_context(path: Path, overrides: list[str] | None, runs: Path, target: str = "") -> RunContext:
    """The context of a command that runs one task, with the tools prepared."""
    params = opened(path, overrides, runs)
    from fade.run.context import RunContext

    return RunContext(params, target, runs, path.parent)
