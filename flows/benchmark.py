"""The benchmark: every cell that is not kept yet is measured, then all of them are compared. Stopped, it goes
on where it was."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from prefect import flow

from fade.benchmark.archive import FOLDER, POINTER, TABLE, Archive, find_archived, read_archive
from fade.benchmark.plan import Cell, Plan, narrowed, plan_of, tries_of
from fade.benchmark.record import SOURCES, find_anywhere, find_record, read_picture
from fade.benchmark.summary import Origin, summarise
from fade.benchmark.tables import markdown
from fade.benchmark.tuning import choose, read_tuned, trial_of, write_tuned
from fade.config import DataConfig, Params
from fade.errors import CacheError, EvaluationError, TrainingError
from fade.provenance.lineage import code_state
from fade.run.context import RunContext
from fade.run.resolve_params import resolve
from fade.utils import progress
from fade.utils.files import make_folder, write_whole
from fade.utils.locks import lock_folder
from tasks.data.pull import pictures_md5, pull, pull_task
from tasks.stages.benchmark import Bench, measure_task, note_memory, sources_of

FIGURE = "frontier.svg"

Setting = tuple[str, ...]
Records = dict[Cell, dict[str, Any]]
Failures = dict[Cell, str]


@dataclass(frozen=True)
class BenchmarkOptions:
    """Options of `fade bench`."""

    params_file: Path = Path("params.yaml")
    runs: Path = Path("runs")
    home: Path = Path("bench")
    """Where cells, trials and tuned settings are kept."""
    overrides: Setting = ()
    """What the user set: wins over what was tuned."""
    out: Path | None = None
    quick: bool = False
    tune: bool = False
    methods: str = ""
    targets: str = ""
    seeds: str = ""

    @cached_property
    def narrow(self) -> list[str]:
        """The choice of methods, targets and seeds, as overrides."""
        bench = resolve(self.params_file, self.overrides).bench
        names = {"methods": self.methods, "targets": self.targets, "seeds": self.seeds}
        return narrowed(bench=bench, quick=self.quick, **names)

    def settings(self) -> Params:
        """The parameters of the chosen part. Raises as `resolve`."""
        return resolve(self.params_file, [*self.overrides, *self.narrow])

    @property
    def folder(self) -> Path:
        """Of the outputs: the run of record's, or that of a part."""
        return self.out or (self.runs / "bench" / "report" if self.narrow else self.home / "record")

    @property
    def tuned(self) -> Path:
        return self.home / "tuned.yaml"

    @property
    def command(self) -> str:
        """The command that makes the outputs again; without --out, which changes nothing in them."""
        flags = [name for name, on in (("--quick", self.quick), ("--tune", self.tune)) if on]
        named = {
            "--methods": (self.methods, ""),
            "--targets": (self.targets, ""),
            "--seeds": (self.seeds, ""),
            "--params": (str(self.params_file), "params.yaml"),
            "--home": (str(self.home), "bench"),
        }
        words = [part for name, (text, usual) in named.items() if text != usual for part in (name, text)]
        words += [part for item in self.overrides for part in ("--set", item)]
        return shlex.join(["fade", "bench", *flags, *words])


@flow(name="benchmark", validate_parameters=False)
def benchmark(options: BenchmarkOptions) -> dict[str, Any]:
    """Measure what is missing and write ``benchmark.{json,md,html}``. Returns the summary."""
    with _opened(options, "cells") as (bench, plan):
        tuned = read_tuned(options.tuned, plan.targets, bench.data_md5)
        settings = [(cell, chosen(tuned, cell)) for cell in plan.cells()]
        measured, failures = measure_all(bench, settings, "bench")
    records = {cell: record for (cell, _), record in measured.items()}
    return publish(options, bench, plan, records, tuned, failures)


@flow(name="tune", validate_parameters=False)
def tune(options: BenchmarkOptions) -> dict[str, Any]:
    """Try every method's settings on the tuning targets, keep the best in ``home/tuned.yaml``. Returns
    condition -> what was chosen."""
    out = {}
    with _opened(options, "trials") as (bench, plan):
        config = bench.first.params.bench
        bench = for_trials(bench)
        made = {"data_md5": bench.data_md5, "commit": bench.commit}
        for condition in plan.conditions:
            tries = [tuple(setting) for setting in tries_of(condition, config.sweep)]
            cells = {target: Cell(condition, target, config.seeds[0]) for target in config.tuning}
            settings = [(cell, setting) for setting in tries for cell in cells.values()]
            measured, _ = measure_all(bench, settings, f"tune {condition.label}")
            best = choose(
                [
                    trial_of(setting, {t: measured.get((cell, setting)) for t, cell in cells.items()})
                    for setting in tries
                ]
            )
            out[condition.label] = best
            # after each: a sweep may be interrupted
            write_tuned(options.tuned, {condition.label: best}, config, made)
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
    bench = _bench(options, first, pictures_md5(data, first.root), "cells")
    plan = plan_of(first.params.bench, None)
    tuned = read_tuned(options.tuned, plan.targets, bench.data_md5)
    sources_are_here = all(
        Path(first.models.local(where)).is_dir()
        for where in (data.base, data.judge, data.clip, str(data.images), data.second_judge)
        if where
    )
    sources = sources_of(first) if sources_are_here else dict.fromkeys(SOURCES, "")
    inputs = {
        cell: bench.inputs(cell, bench.settings(cell, chosen(tuned, cell)), sources) for cell in plan.cells()
    }

    def records_by(find: Callable[[Mapping[str, Any]], dict[str, Any] | None]) -> Records:
        return {cell: record for cell, key in inputs.items() if (record := find(key)) is not None}

    archive = None
    records = records_by(partial(find_record if sources_are_here else _find_first, bench.folder))
    if not records and (archive := archived(options)):
        cells = archive.cells["cells"]
        records = records_by(partial(find_archived, cells, any_sources=not sources_are_here))
    if len({json.dumps(record["inputs"]["sources"], sort_keys=True) for record in records.values()}) > 1:
        what = f"the cells of {bench.folder} are of several bases."
        action = "pull the data (`fade pull`), so that its own can be told from the others."
        raise CacheError(what, stage="bench", action=action)
    return publish(options, bench, plan, records, tuned, {}, archive if records else None)


def archived(options: BenchmarkOptions) -> Archive | None:
    """The archived record below ``home``, pulled from the embedded remote when it is not there; None where
    none is tracked.

    Raises what `pull` raises, CacheError when the table is damaged.
    """
    pointer = (options.home / POINTER).absolute()
    if not pointer.is_file():
        return None
    data = DataConfig(dvc_file=pointer, images=pointer.parent / FOLDER)  # the folder that may be written
    pull(data, options.params_file.parent, options.runs)
    return read_archive(options.home / FOLDER / TABLE)


def _find_first(folder: Path, inputs: Mapping[str, Any]) -> dict[str, Any] | None:
    return next(iter(find_anywhere(folder, inputs)), None)


def measure_all(
    bench: Bench,
    settings: Sequence[tuple[Cell, Setting]],
    stage: str,
    measure: Callable[..., dict[str, Any]] = measure_task,
) -> tuple[dict[tuple[Cell, Setting], dict[str, Any]], Failures]:
    """The records of all cells with their settings, and the errors of those that could not be trained or
    judged: one failure does not stop the others. Raises ConfigError when one does not fit the device, before
    the first."""
    records, failures = {}, {}
    sources, total = sources_of(bench.first), len(settings)
    note_memory(bench, ((cell, bench.settings(cell, setting)) for cell, setting in settings), sources)
    for done, (cell, setting) in enumerate(settings):
        progress.report(stage, done, total, cell.label)
        try:
            records[cell, setting] = measure(bench, cell, bench.settings(cell, setting), sources)
        except (EvaluationError, TrainingError) as error:
            failures[cell] = str(error)
    progress.report(stage, total, total, f"{len(failures)} failed" if failures else "")
    return records, failures


def publish(
    options: BenchmarkOptions,
    bench: Bench,
    plan: Plan,
    records: Records,
    tuned: Mapping[str, Any],
    failures: Failures,
    archive: Archive | None = None,
) -> dict[str, Any]:
    """Write the outputs; archive: where the cells are from, when it is not the bench's folder. Raises
    StorageError."""
    from fade.reporting.benchmark import figure, grids_of, render_benchmark

    origin = Origin(options.command, bench.commit, bench.data_md5, archive.commit if archive else None)
    summary = summarise(plan, records, bench.first.params.bench, tuned, origin, failures)
    grids = grids_of(archive.picture if archive else partial(read_picture, bench.folder), [*records.values()])
    outputs = {
        "benchmark.json": json.dumps(summary, indent=1, allow_nan=False) + "\n",
        "benchmark.md": markdown(summary, FIGURE),
        "benchmark.html": render_benchmark(summary, grids),
        **({FIGURE: figure(summary)} if records else {}),
    }
    make_folder(options.folder)
    for name, body in outputs.items():
        write_whole(options.folder / name, body, stage="bench")
    return summary


def chosen(tuned: Mapping[str, Mapping[str, Any]], cell: Cell) -> Setting:
    """What was tuned for the cell's condition; nothing where nothing was."""
    return tuple(tuned.get(cell.condition.label, {}).get("overrides", ()))


def _run_context(options: BenchmarkOptions) -> RunContext:
    settings = options.settings()
    return RunContext(settings, settings.bench.targets[0], options.runs, options.params_file.parent)


def _bench(options: BenchmarkOptions, first: RunContext, md5: str, kind: str) -> Bench:
    commit = code_state()["commit"]
    return Bench(first, options.home / kind, md5, commit, options.params_file, options.overrides)


@contextmanager
def _opened(options: BenchmarkOptions, kind: str) -> Iterator[tuple[Bench, Plan]]:
    """The data pulled and the plan checked, alone on the runs folder."""
    first = _run_context(options)
    with lock_folder(options.runs / "bench", "a benchmark is being run", "bench"):
        pulled = pull_task(first.params.data, first.root, options.runs)
        yield _bench(options, first, pulled.md5, kind), plan_of(first.params.bench, first.vocabulary)
