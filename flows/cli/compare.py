"""Methods, listed and side by side."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typer import Option

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
    opened,
    with_world,
)
from flows.cli.output import emit
from flows.cli.screen import bars, escape, print_line, print_note, show_rows

if TYPE_CHECKING:
    from flows.benchmark import BenchmarkOptions

MISSING_SHOWN = 20
"""Missing cells that are named; the report has all."""


@app.command(epilog="Example: fade methods")
def methods() -> None:
    """The erasing methods and their variants."""
    from fade.erasers.base import get_eraser, known_erasers

    for name, variants in known_erasers().items():
        for eraser in (get_eraser(name, variant) for variant in variants):
            print_line(f"{name}/{eraser.variant}: {eraser.source}")
            print_line(f"  given beside the target: {eraser.given or 'nothing'}")
            if eraser.settings:
                print_line(f"  trains by default: {' '.join(f'--set {item}' for item in eraser.settings)}")
            if eraser.recipe:
                print_line(f"  its own settings: {' '.join(f'--set {item}' for item in eraser.recipe)}")


@app.command(epilog="Example: fade bench --quick")
def bench(
    quick: bool = Option(False, "--quick", help="One target, one seed, one variant a method."),
    tune: bool = Option(
        False, "--tune", help="Choose every method's settings on the tuning targets instead."
    ),
    report_only: bool = Option(
        False, "--report-only", help="The outputs from the kept cells; nothing is measured."
    ),
    methods: str = Option("", help="NAME/VARIANT, NAME/VARIANT + neighbours, ..."),
    targets: str = Option("", help="Concepts, by comma."),
    seeds: str = Option("", help="The training's seeds, by comma."),
    home: Path = Option(Path("bench"), help="Where finished cells and tuned settings are kept."),
    out: Path | None = Option(
        None, help="Folder of the outputs (default: bench/record; of a part RUNS/bench/report)."
    ),
    world: World = None,
    set_: Set = None,
    params: ParamsFile = PARAMS,
    runs_dir: Runs = RUNS,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Methods side by side: methods x targets x seeds. Finished cells are kept; stopped, the same command
    goes on."""
    set_ = with_world(params, world, set_, pulls=True)
    settings = opened(params, set_, runs_dir, verbose=verbose)
    from fade.run.context import RunContext
    from fade.run.preflight import preflight

    if not report_only:
        run = RunContext(settings, (), runs_dir, params.parent)
        preflight(run, registers=False, trains=False)
    from flows import benchmark as flow
    from flows.server import runtime

    parts: dict[str, Any] = {"methods": methods, "targets": targets, "seeds": seeds}
    options = flow.BenchmarkOptions(
        params, runs_dir, home, tuple(set_ or ()), out, quick=quick, tune=tune, **parts
    )
    chosen = options.settings()  # a wrong choice fails before a server starts
    if not report_only and not tune:
        from fade.evaluation.attacks import get_attack

        for name in chosen.attack.names:  # not after the first cell's training
            get_attack(name)
    with bars(as_json):
        if report_only:
            result = flow.report(options)
        else:
            result = runtime.run(flow.tune if tune else flow.benchmark, options=options)
    show = _show_tuned if tune and not report_only else _show_summary
    emit(result, as_json, partial(show, options))


def _show_tuned(options: BenchmarkOptions, tuned: dict[str, Any]) -> None:
    from fade.benchmark.tuning import edge_sentence

    rows = [[label, f"{best['score']:.1f}", " ".join(best["overrides"])] for label, best in tuned.items()]
    show_rows(f"settings kept in {options.tuned}", ["method", "score", "setting"], rows)
    if sentence := edge_sentence(tuned):
        print_note(f"{escape(sentence)} Next: extend bench.sweep there, for every method alike.")


def _show_summary(options: BenchmarkOptions, summary: dict[str, Any]) -> None:
    from fade.benchmark.tables import main_table

    if summary["arms"]:
        table = main_table(summary)
        show_rows(table.title, table.head, table.rows, table.note.replace("Bold", "In **"))
    missing = summary["cells"]["missing"]
    for cell in missing[:MISSING_SHOWN]:
        what = f"{cell['arm']}, {cell['target']}, seed {cell['seed']}: {cell['why']}"
        print_note(f"missing     {escape(what)}")
    if len(missing) > MISSING_SHOWN:
        print_note(f"            and {len(missing) - MISSING_SHOWN} more, see the report")
    print_line(f"report      {options.folder / 'benchmark.html'}")
