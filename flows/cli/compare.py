"""Methods, listed and side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli.app import app
from flows.cli.options import Json, ParamsFile, Runs, Set, Verbose, prepared, resolved
from flows.cli.screen import bars, escape, say, show_rows


@app.command(epilog="Example: fade methods")
def methods() -> None:
    """The erasing methods and their variants."""
    from fade.erasers.base import get_eraser, known_erasers

    for name, variants in known_erasers().items():
        for variant in variants:
            found = get_eraser(name, variant)
            print(f"{name}/{variant}: {found.source}")
            if found.settings:
                print(f"  trains by default: {' '.join(f'--set {item}' for item in found.settings)}")
            if found.recipe:
                print(f"  its own settings: {' '.join(f'--set {item}' for item in found.recipe)}")


@app.command(epilog="Example: fade bench --quick")
def bench(
    quick: Annotated[
        bool, typer.Option("--quick", help="One target, one seed, one variant a method.")
    ] = False,
    tune: Annotated[
        bool, typer.Option("--tune", help="Choose every method's settings on the tuning targets instead.")
    ] = False,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="The outputs from the kept cells; nothing is measured.")
    ] = False,
    methods: Annotated[str, typer.Option(help="NAME/VARIANT, NAME/VARIANT + neighbours, ...")] = "",
    targets: Annotated[str, typer.Option(help="Concepts, by comma.")] = "",
    seeds: Annotated[str, typer.Option(help="The training's seeds, by comma.")] = "",
    home: Annotated[Path, typer.Option(help="Where finished cells and tuned settings are kept.")] = Path(
        "bench"
    ),
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the outputs (default: bench/record; of a part RUNS/bench/report)."),
    ] = None,
    set_: Set = None,
    params: ParamsFile = Path("params.yaml"),
    runs_dir: Runs = Path("runs"),
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Methods side by side: methods x targets x seeds. Finished cells are kept; stopped, the same command
    goes on."""
    settings, overrides = resolved(params, set_)
    prepared(settings, runs_dir, params.parent, verbose)
    from fade.benchmark.plan import narrowed
    from flows import benchmark as flows
    from flows.server import runtime

    narrow = narrowed(bench=settings.bench, quick=quick, methods=methods, targets=targets, seeds=seeds)
    resolved(params, [*overrides, *narrow])  # a wrong choice fails before a server starts
    where = out or (runs_dir / "bench" / "report" if narrow else home / "record")
    command = flows.reproduce(
        quick=quick,
        tune=tune,
        methods=methods,
        targets=targets,
        seeds=seeds,
        overrides=overrides,
        params=params,
        home=home,
    )
    options = flows.BenchmarkOptions(params, runs_dir, home, tuple(overrides), tuple(narrow), where, command)
    with bars(as_json):
        result = (
            flows.report(options)
            if report_only
            else runtime.run(flows.tune if tune else flows.benchmark, options=options)
        )
    if as_json:
        print(json.dumps(result, indent=2))
    elif tune:
        show_rows(
            f"settings kept in {options.tuned}", ["method", "score", "setting"], flows.chosen_rows(result)
        )
    else:
        _show_bench(result, where)


def _show_bench(summary: dict[str, Any], where: Path) -> None:
    from fade.benchmark.tables import main_table

    if summary["arms"]:
        table = main_table(summary)
        show_rows(table.title, table.head, table.rows, table.note.replace("Bold", "In **"))
    missing = summary["cells"]["missing"]
    for cell in missing[:20]:
        say(
            f"missing     {escape(cell['arm'])}, {escape(cell['target'])}, seed {cell['seed']}: "
            f"{escape(cell['why'])}"
        )
    if len(missing) > 20:
        say(f"            and {len(missing) - 20} more, see the report")
    print(f"report      {where / 'benchmark.html'}")
