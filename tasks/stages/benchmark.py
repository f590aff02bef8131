"""Measure one cell of the benchmark in this process: mine, train, judge, probe, keep. What cells have in
common is made once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from fade.benchmark.plan import Cell, settings_of
from fade.benchmark.record import find_record, inputs_of, path_of, write_record
from fade.config import Params
from fade.errors import CacheError, DataError
from fade.provenance.fingerprints import files_sha256
from fade.run.context import RunContext
from fade.run.memory import memory_sentence
from fade.utils.files import write_whole
from fade.utils.hashing import fingerprint
from fade.utils.notes import note
from tasks.launch.run_job import runs_here
from tasks.stages import robustness

if TYPE_CHECKING:
    import numpy as np

    from fade.mining.neighborhood import Neighborhood

GRID_CONCEPTS = (2, 1)
"""Neighbours and held-out neighbours in a grid, below the target."""


@dataclass(frozen=True)
class Bench:
    """What all cells share. ``first`` holds the models, each loaded when a cell first needs it."""

    first: RunContext
    folder: Path
    """Where the cells are kept."""
    data_md5: str
    commit: str | None
    params_file: Path
    overrides: Sequence[str]
    """What the user set: wins over what was tuned."""
    probing: bool = True
    """False for tuning, which needs no attacks."""

    def settings(self, cell: Cell, chosen: Sequence[str]) -> Params:
        """The cell's parameters; ``chosen``: what was tuned for its condition."""
        return settings_of(cell, chosen, self.params_file, self.overrides)

    def inputs(self, cell: Cell, params: Params, sources: dict[str, str]) -> dict[str, Any]:
        """What the cell's key is made of."""
        probed_by = files_sha256([Path(robustness.__file__)]) if self.probing else None
        return inputs_of(cell, params, sources, self.data_md5, probed_by)


def sources_of(run: RunContext) -> dict[str, str]:
    """Hashes of the base, the judges, the CLIP and the vocabulary, without loading any. Raises BaseModelError
    for what is not there."""
    hashes = {name: run.models.sha256(name) for name in run.models.kinds}
    return {**hashes, "vocabulary": fingerprint(run.vocabulary.names)}


def note_memory(bench: Bench, cells: Iterable[tuple[Cell, Params]], sources: dict[str, str]) -> None:
    """Write a line on the memory of each condition of which a cell is to be measured, the attacks included.
    Raises ConfigError, with the numbers, before any cell is begun."""
    estimated = set()
    for cell, params in cells:
        if cell.condition in estimated or find_record(bench.folder, bench.inputs(cell, params, sources)):
            continue
        estimated.add(cell.condition)
        run = bench.first.with_params(params, cell.target)
        if line := memory_sentence(run, attacks=bench.probing):
            note(f"{cell.condition.label}: {line}")


def work_on(bench: Bench, cell: Cell, params: Params, inputs: dict[str, Any]) -> dict[str, Any]:
    """Mine, train, judge, probe: the record but for its key. Raises DataError when the base is no longer the
    one of ``inputs``."""
    from fade.benchmark.cost import FlopCounter
    from tasks.stages.evaluate import evaluate
    from tasks.stages.mine import mine

    run = bench.first.with_params(params, cell.target)
    if run.models.base.sha256 != inputs["sources"]["base"]:
        what = "the base changed while the benchmark went on."
        raise DataError(what, stage="bench", action="leave the data alone; run it again.")
    neighborhood = mine(run)
    adapter, train_cost = _train(bench, run, neighborhood)
    with FlopCounter(run.models.base.denoiser, run.models.base.device) as judging:
        result = evaluate(run, neighborhood, adapter)
    cost = {"train": train_cost, "judge": judging.facts()}
    record = {"numbers": result.numbers, "cost": cost, "made": _made(bench, run), "grid": None}
    if not bench.probing:
        return record
    with FlopCounter(run.models.base.denoiser, run.models.base.device) as probing:
        blocks = robustness.measure_robustness(run, neighborhood, adapter, result.numbers)
    cost["probe"] = probing.facts()
    if cell.seed == bench.first.params.bench.seeds[0]:
        record["grid"] = _keep_grid(bench, inputs, neighborhood, result.pictures)
    return {**blocks, **record}


def measure(
    bench: Bench,
    cell: Cell,
    params: Params,
    sources: dict[str, str],
    work: Callable[..., dict[str, Any]] = work_on,
) -> dict[str, Any]:
    """The cell's record: the kept one when there is one, else measured and kept. Raises what training or
    judging raises."""
    inputs = bench.inputs(cell, params, sources)
    if record := find_record(bench.folder, inputs):
        return record
    write_record(bench.folder, inputs, work(bench, cell, params, inputs))
    record = find_record(bench.folder, inputs)
    if record is None:
        what = f"{path_of(bench.folder, inputs)} was changed under the benchmark."
        raise CacheError(what, stage="bench", action="run it again.")
    return record


def _train(bench: Bench, run: RunContext, neighborhood: Neighborhood) -> tuple[Path, dict[str, Any]]:
    """The adapter and what its training cost; the costs are None when it was not trained here from its first
    step on."""
    from fade.benchmark.cost import FlopCounter
    from tasks.stages.train import train_job, write_job

    job = write_job(run, neighborhood, {"data_md5": bench.data_md5, "commit": bench.commit or "unknown"})
    with FlopCounter(run.models.base.denoiser, run.models.base.device) as counter:
        trained = train_job(run, job)
    counted = runs_here(run) and not trained.reused and not trained.run["resumed_at"]
    return trained.adapter, counter.facts() if counted else {}


def _made(bench: Bench, run: RunContext) -> dict[str, Any]:
    """By what code and machine: not part of the key, but recorded."""
    import torch

    from fade.utils.devices import device_name

    machine = {
        "device": device_name(run.models.base.device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    return {"commit": bench.commit, **machine}


def _keep_grid(
    bench: Bench,
    inputs: dict[str, Any],
    neighborhood: Neighborhood,
    pictures: dict[str, tuple[np.ndarray, np.ndarray]],
) -> dict[str, Any]:
    """Small PNGs beside the cell, the original's under its own content's name, so that all conditions
    share it."""
    import hashlib

    from fade.reporting.pictures import cell_grid

    near, far = GRID_CONCEPTS
    rows = [neighborhood.target, *neighborhood.neighbours[:near], *neighborhood.heldout[:far]]
    n = bench.first.params.bench.grid_images
    path = path_of(bench.folder, inputs).with_suffix(".png")
    path.parent.mkdir(parents=True, exist_ok=True)
    files = {}
    for which, model in enumerate(("original", "erased")):
        body = cell_grid([pictures[name][which][:n] for name in rows])
        sha256 = hashlib.sha256(body).hexdigest()
        name = path.name if model == "erased" else f"original-{sha256[:12]}.png"
        write_whole(path.with_name(name), body, stage="bench")
        files[model] = {"file": name, "sha256": sha256}
    return {"rows": rows, **files}


measure_task = task(name="cell", cache_policy=NO_CACHE)(measure)
