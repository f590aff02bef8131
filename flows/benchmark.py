"""The benchmark: every cell that is not kept yet is measured, then all of them are compared. Stopped, it goes
on where it was."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from prefect import flow

from fade.benchmark.archive import FOLDER, POINTER, TABLE, Archive, find_archived, read_archive
from fade.benchmark.plan import Cell, Plan, plan_of, tries_of
from fade.benchmark.record import SOURCES, find_anywhere, find_record, read_picture
from fade.benchmark.summary import Origin, summarise
from fade.benchmark.tables import markdown
from fade.benchmark.tuning import choose, read_tuned, trial_of, write_tuned
from fade.config import DataConfig
from fade.data.dvcfile import read_dvc_file
from fade.errors import CacheError, EvaluationError, TrainingError
from fade.provenance.lineage import code_state
from fade.run.context import RunContext
from fade.run.resolve_params import resolve
from fade.utils import progress
from fade.utils.files import make_folder, write_whole
from fade.utils.locks import lock_folder
from tasks.data.pull import pull, pull_task
from tasks.stages.benchmark import Bench, measure_task, sources_of

RECORD = Path("bench/record")
"""Where the run of record lies."""
FIGURE = "frontier.svg"

Setting = tuple[str, ...]
Found = dict[tuple[Cell, Setting], dict[str, Any]]
Failures = dict[Cell, str]


@dataclass(frozen=True)
class BenchmarkOptions:
    """The command line's wishes."""

    params_file: Path = Path("params.yaml")
    runs: Path = Path("runs")
    home: Path = Path("bench")
    """Where cells, trials and tuned settings are kept."""
    overrides: Setting = ()
    """What the user set: wins over what was tuned."""
    narrow: Setting = ()
    """The choice of methods, targets and seeds, as overrides."""
    out: Path = RECORD
    command: str = "fade bench"

    @property
    def tuned(self) -> Path:
        return self.home / "tuned.yaml"


@flow(name="benchmark", validate_parameters=False)
def benchmark(options: BenchmarkOptions) -> dict[str, Any]:
    """Measure what is missing and write ``out/benchmark.{json,md,html}``. Returns the summary."""
    with _opened(options, "cells") as (bench, plan):
        tuned = read_tuned(options.tuned, plan.targets)
        cells_and_settings = [(cell, chosen(tuned, cell)) for cell in plan.cells()]
        found, failures = measure_all(bench, cells_and_settings, "bench")
    return publish(
        options, bench, plan, {cell: record for (cell, _), record in found.items()}, tuned, failures
    )


@flow(name="tune", validate_parameters=False)
def tune(options: BenchmarkOptions) -> dict[str, Any]:
    """Try every method's settings on the tuning targets, keep the best in ``home/tuned.yaml``. Returns
    condition -> what was chosen."""
    out = {}
    with _opened(options, "trials") as (bench, plan):
        settings = bench.first.params.bench
        bench = for_trials(bench)
        made, seed = {"data_md5": bench.data_md5, "commit": bench.commit}, settings.seeds[0]
        for condition in plan.conditions:
            tries = [tuple(setting) for setting in tries_of(condition, settings.sweep)]
            found, _ = measure_all(
                bench,
                [(Cell(condition, t, seed), setting) for setting in tries for t in settings.tuning],
                f"tune {condition.label}",
            )
            trials = [
                trial_of(
                    setting, {t: found.get((Cell(condition, t, seed), setting)) for t in settings.tuning}
                )
                for setting in tries
            ]
            out[condition.label] = choose(trials)
            write_tuned(
                options.tuned, {condition.label: out[condition.label]}, settings, made
            )  # after each: a sweep may be interrupted
    return out


def for_trials(bench: Bench) -> Bench:
    """Measures less: no attack, and ``bench.trial``, which what the user set wins over."""
    return replace(bench, probing=False, overrides=(*bench.first.params.bench.trial, *bench.overrides))


def report(options: BenchmarkOptions) -> dict[str, Any]:
    """The outputs from the kept cells alone; nothing is measured, no model is loaded. Missing cells are
    listed.

    Cells are read from ``home/cells``; where that has none of the plan, from the archived record
    (``home/archive.dvc``, pulled when it is not there). The two are never mixed: the archived ones are of
    earlier code. Where the models are not at hand, the cells of whatever models are taken: they are of this
    data set by its md5. Raises CacheError when those are of several, and what `pull` raises."""
    first = _run_context(options)
    data = first.params.data
    bench = _bench(options, first, read_dvc_file(first.root / data.dvc_file).md5, "cells")
    plan = plan_of(first.params.bench, None)
    tuned = read_tuned(options.tuned, plan.targets)
    here = all(
        Path(first.local(where)).is_dir() for where in (data.base, data.judge, data.clip, str(data.images))
    )
    sources = sources_of(first) if here else dict.fromkeys(SOURCES, "")
    inputs = {
        cell: bench.inputs(cell, bench.settings(cell, chosen(tuned, cell)), sources) for cell in plan.cells()
    }
    in_folder = partial(find_record if here else _anywhere, bench.folder)
    found = {
        cell: kept
        for cell, cells_and_settings in inputs.items()
        if (kept := in_folder(cells_and_settings)) is not None
    }
    archive = None if found else archived(options)
    if archive is not None:
        in_archive = partial(find_archived, archive.cells["cells"], any_sources=not here)
        found = {
            cell: kept
            for cell, cells_and_settings in inputs.items()
            if (kept := in_archive(cells_and_settings)) is not None
        }
    if len({json.dumps(record["inputs"]["sources"], sort_keys=True) for record in found.values()}) > 1:
        what = f"the cells of {bench.folder} are of several bases."
        raise CacheError(
            what,
            stage="bench",
            action="pull the data (`fade pull`), so that its own can be told from the others.",
        )
    return publish(options, bench, plan, found, tuned, {}, archive if found else None)


def archived(options: BenchmarkOptions) -> Archive | None:
    """The archived record below ``home``, pulled from the embedded remote when it is not there; None where
    none is tracked.

    Raises what `pull` raises, CacheError when the table is damaged.
    """
    pointer = (options.home / POINTER).absolute()
    if not pointer.is_file():
        return None
    pull(DataConfig(dvc_file=pointer), options.params_file.parent, options.runs)
    return read_archive(options.home / FOLDER / TABLE)


def _anywhere(folder: Path, inputs: Mapping[str, Any]) -> dict[str, Any] | None:
    return next(iter(find_anywhere(folder, inputs)), None)


def measure_all(
    bench: Bench,
    cells_and_settings: Sequence[tuple[Cell, Setting]],
    stage: str,
    measure: Callable[..., dict[str, Any]] = measure_task,
) -> tuple[Found, Failures]:
    """Every wanted cell's record, and what those said that could not be trained or judged: one failure does
    not stop the others."""
    found: Found = {}
    failures: Failures = {}
    sources = sources_of(bench.first)
    for done, (cell, setting) in enumerate(cells_and_settings):
        progress.report(stage, done, len(cells_and_settings), cell.label)
        try:
            found[cell, setting] = measure(bench, cell, bench.settings(cell, setting), sources)
        except (EvaluationError, TrainingError) as error:
            failures[cell] = str(error)
    progress.report(
        stage, len(cells_and_settings), len(cells_and_settings), f"{len(failures)} failed" if failures else ""
    )
    return found, failures


def publish(
    options: BenchmarkOptions,
    bench: Bench,
    plan: Plan,
    found: Mapping[Cell, dict[str, Any]],
    tuned: Mapping[str, Any],
    failures: Failures,
    archive: Archive | None = None,
) -> dict[str, Any]:
    """Write the outputs; archive: where the cells are from, when it is not the bench's folder. Raises
    StorageError."""
    from fade.reporting.benchmark import figure, grids_of, render_benchmark

    origin = Origin(options.command, bench.commit, bench.data_md5, archive.commit if archive else None)
    summary = summarise(plan, found, bench.first.params.bench, tuned, origin, failures)
    make_folder(options.out)
    picture = archive.picture if archive else partial(read_picture, bench.folder)
    grids = grids_of(picture, list(found.values()))
    outputs = {
        "benchmark.json": json.dumps(summary, indent=1, allow_nan=False) + "\n",
        "benchmark.md": markdown(summary, FIGURE),
        "benchmark.html": render_benchmark(summary, grids),
        **({FIGURE: figure(summary)} if found else {}),
    }
    for name, body in outputs.items():
        write_whole(options.out / name, body, stage="bench")
    return summary


def reproduce(
    *,
    quick: bool,
    tune: bool,
    methods: str,
    targets: str,
    seeds: str,
    overrides: Sequence[str],
    params: Path,
    home: Path,
) -> str:
    """The command that makes the outputs again; without --out, which changes nothing in them."""
    flags = [name for name, on in (("--quick", quick), ("--tune", tune)) if on]
    named = {"--methods": methods, "--targets": targets, "--seeds": seeds}
    elsewhere = {"--params": (params, "params.yaml"), "--home": (home, "bench")}
    words = [part for name, text in named.items() if text for part in (name, text)]
    words += [
        part for name, (path, usual) in elsewhere.items() if str(path) != usual for part in (name, str(path))
    ]
    return shlex.join(
        ["fade", "bench", *flags, *words, *(part for item in overrides for part in ("--set", item))]
    )


def chosen_rows(tuned: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Condition, score and setting, for the terminal."""
    return [[label, f"{found['score']:.1f}", " ".join(found["overrides"])] for label, found in tuned.items()]


def chosen(tuned: Mapping[str, Mapping[str, Any]], cell: Cell) -> Setting:
    """What was tuned for the cell's condition; nothing where nothing was."""
    return tuple(tuned.get(cell.condition.label, {}).get("overrides", ()))


def _run_context(options: BenchmarkOptions) -> RunContext:
    settings = resolve(options.params_file, [*options.overrides, *options.narrow])
    return RunContext(settings, settings.bench.targets[0], options.runs, options.params_file.parent)


def _bench(options: BenchmarkOptions, first: RunContext, md5: str, kind: str) -> Bench:
    return Bench(
        first, options.home / kind, md5, code_state()["commit"], options.params_file, options.overrides
    )


@contextmanager
def _opened(options: BenchmarkOptions, kind: str) -> Iterator[tuple[Bench, Plan]]:
    """The data pulled and the plan checked, alone on the runs folder."""
    first = _run_context(options)
    with lock_folder(options.runs / "bench", "a benchmark is being run", "bench"):
        pulled = pull_task(first.params.data, first.root, options.runs)
        yield _bench(options, first, pulled.md5, kind), plan_of(first.params.bench, first.vocabulary)
