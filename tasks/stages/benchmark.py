"""Measure one cell of the benchmark in this process: mine, train, judge, probe, keep. What cells have in
common is made once."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
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
from fade.utils.files import write_whole
from fade.utils.hashing import fingerprint
from tasks.launch.run_job import runs_here
from tasks.stages import robustness as further

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
        probed_by = files_sha256([Path(further.__file__)]) if self.probing else None
        return inputs_of(cell, params, sources, self.data_md5, probed_by)


def sources_of(run: RunContext) -> dict[str, str]:
    """Hashes of the base, the judge, the CLIP and the vocabulary, without loading any. Raises BaseModelError
    for what is not there."""
    from fade.models.loading import PIPELINE_PARTS, directory_sha256, resolve

    data = run.params.data
    home = {
        name: resolve(run.local(where), name)
        for name, where in (("base", data.base), ("judge", data.judge), ("clip", data.clip))
    }
    hashes = {
        name: directory_sha256(path, PIPELINE_PARTS if name == "base" else ()) for name, path in home.items()
    }
    return {**hashes, "vocabulary": fingerprint(run.vocabulary.names)}


def measure(
    bench: Bench,
    cell: Cell,
    params: Params,
    sources: dict[str, str],
    work: Callable[..., dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """The cell's record: the kept one when there is one, else measured and kept. Raises what training or
    judging raises.

    work: what measures it, see `work_on`.
    """
    inputs = bench.inputs(cell, params, sources)
    if (kept := find_record(bench.folder, inputs)) is not None:
        return kept
    write_record(bench.folder, inputs, (work or work_on)(bench, cell, params, inputs))
    written = find_record(bench.folder, inputs)
    if written is None:
        raise CacheError(
            f"{path_of(bench.folder, inputs)} was changed under the benchmark.",
            stage="bench",
            action="run it again.",
        )
    return written


def work_on(bench: Bench, cell: Cell, params: Params, inputs: dict[str, Any]) -> dict[str, Any]:
    """Mine, train, judge, probe: the record but for its key. Raises DataError when the base is no longer the
    one of ``inputs``."""
    from fade.benchmark.cost import FlopCounter
    from tasks.stages.evaluate import evaluate
    from tasks.stages.mine import mine

    run = bench.first.beside(params, cell.target)
    if run.base.sha256 != inputs["sources"]["base"]:
        raise DataError(
            "the base changed while the benchmark went on.",
            stage="bench",
            action="leave the data alone; run it again.",
        )
    neighborhood = mine(run)
    adapter, cost = _train(bench, run, neighborhood)
    with FlopCounter(run.base.unet, run.base.device) as judge:
        result = evaluate(run, neighborhood, adapter)
    out: dict[str, Any] = {
        "numbers": result.numbers,
        "cost": {"train": cost, "judge": judge.facts()},
        "made": made(bench, run),
        "grid": None,
    }
    if not bench.probing:
        return out
    with FlopCounter(run.base.unet, run.base.device) as probing:
        blocks = further.probe(run, neighborhood, adapter, result.numbers)
    out["cost"]["probe"] = probing.facts()
    if cell.seed == bench.first.params.bench.seeds[0]:
        out["grid"] = _keep_grid(bench, inputs, neighborhood, result.pictures)
    return {**blocks, **out}


def _train(bench: Bench, run: RunContext, neighborhood: Neighborhood) -> tuple[Path, dict[str, Any]]:
    """The adapter and what its training cost; the costs are None when it was not trained here from its first
    step on."""
    from fade.benchmark.cost import FlopCounter
    from tasks.stages.train import train_job, write_job

    job = write_job(run, neighborhood, {"data_md5": bench.data_md5, "commit": bench.commit or "unknown"})
    with FlopCounter(run.base.unet, run.base.device) as counter:
        trained = train_job(run, job)
    counted = runs_here(run) and not trained.reused and not trained.run["resumed_at"]
    return trained.adapter, counter.facts() if counted else {}


def made(bench: Bench, run: RunContext) -> dict[str, Any]:
    """By what: not part of the key, but told."""
    import torch

    device = torch.cuda.get_device_name() if run.base.device.type == "cuda" else platform.machine()
    return {
        "commit": bench.commit,
        "device": device,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


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
    shown = bench.first.params.bench.grid_images
    original, erased = (cell_grid([pictures[name][which][:shown] for name in rows]) for which in (0, 1))
    path = path_of(bench.folder, inputs).with_suffix(".png")
    path.parent.mkdir(parents=True, exist_ok=True)
    digests = [hashlib.sha256(body).hexdigest() for body in (original, erased)]
    names = [f"original-{digests[0][:12]}.png", path.name]
    for name, body in zip(names, (original, erased), strict=True):
        write_whole(path.with_name(name), body, stage="bench")
    files = {
        key: {"file": n, "sha256": d}
        for key, n, d in zip(("original", "erased"), names, digests, strict=True)
    }
    return {"rows": rows, **files}


measure_task = task(name="cell", cache_policy=NO_CACHE)(measure)
