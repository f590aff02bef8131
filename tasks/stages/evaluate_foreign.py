"""Judge somebody else's erased model, a LoRA or a whole denoiser, with the evidence page of our own runs."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.errors import AdapterError
from fade.provenance.lineage import Lineage, hash_path
from fade.run.context import RunContext
from fade.utils.clock import Clock
from fade.utils.files import make_folder, write_json
from fade.utils.reading import ADAPTER, check_regular
from tasks.data.pull import read_here
from tasks.stages.evaluate import evaluate_change
from tasks.stages.lineage import open_record, require_unchanged, run_inputs
from tasks.stages.mine import mine
from tasks.stages.report import make_report

if TYPE_CHECKING:
    from fade.adapters.foreign import ForeignWeights
    from fade.mining.neighborhood import Neighborhood
    from tasks.stages.evaluate import EvaluationResult

STAGE = "evaluate"
FOLDER = "foreign"
"""Folder of the evaluations below the runs folder."""
PEFT_WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
METHOD: dict[str, Any] = {"method": "not made here", "neighbours_trained": False, "seed": "unknown"}


def evaluate_foreign(
    run: RunContext, adapter: Path | None, model: Path | None, overrides: Sequence[str], params_file: Path
) -> dict[str, Any]:
    """Judge the LoRA of the file (or peft folder) ``adapter``, or the denoiser of the directory ``model``, on
    the run's targets. Registers nothing.

    Writes ``report.html``, ``evaluation.json`` and ``lineage.json`` (what was judged by what) into a folder
    of its own, and returns the numbers with ``foreign``, ``folder`` and ``report``. Raises AdapterError for
    weights that are refused (see `fade.adapters.foreign`), DataError when an input changed meanwhile, and
    what mining and judging raise."""
    from fade.adapters.change import SwappedWeights, check_effect

    path, clock = _weights_path(adapter, model), Clock()
    with clock.stage("read"):
        before = _inputs(run, path)
        read = _read(run, path, whole=adapter is None)
    with clock.stage("mine"):
        neighborhood = mine(run)
    swapped = SwappedWeights(run.models.base, read.weights)
    try:
        check_effect(run.models.base, swapped, str(path), "name the erased model.")
        with clock.stage("evaluate"):
            sha256 = swapped.sha256()
            judged = evaluate_change(run, neighborhood, swapped, sha256)
    finally:
        swapped.remove()
    own = "model" if adapter is None else "adapter"
    facts = {"file": str(path), "sha256": before[own], **read.facts}
    judged.numbers.update(METHOD, variant=read.facts["layout"], foreign=facts)
    opened = _opened(run, neighborhood, before, overrides)
    record = _record(opened, _inputs(run, path), judged, facts)
    folder = run.runs / FOLDER / run.home.name / f"{sha256[:12]}-{run.key[:12]}"
    make_folder(folder)
    record.save(folder / "lineage.json")
    write_json(folder / "evaluation.json", judged.numbers)
    command = _command(run.targets, own, path, overrides, params_file)
    what = (judged, (), (), record.content, clock.seconds, command, folder, facts)
    report = make_report(run, neighborhood, *what)
    return {**judged.numbers, "folder": str(folder), "report": str(report.path)}


def _weights_path(adapter: Path | None, model: Path | None) -> Path:
    """The file of weights, or the model's directory. Raises AdapterError for one that is not there, and for
    an adapter that is no .safetensors file, or none that can be read."""
    from fade.adapters.foreign import refuse_pickle

    path = adapter or model or Path()
    if adapter is not None and adapter.is_dir():
        path = adapter / PEFT_WEIGHTS
    if not path.exists():
        action = "name a .safetensors file (peft: its folder) with --adapter, a directory with --model."
        raise AdapterError(f"{path} does not exist.", stage=STAGE, action=action)
    if adapter is None:
        return path
    refuse_pickle(path)  # before anything is hashed or loaded
    try:
        check_regular(path, ADAPTER)
    except OSError as error:
        action = "name a file that can be read."
        raise AdapterError(f"{path} cannot be read: {error}.", stage=STAGE, action=action) from error
    return path


def _read(run: RunContext, path: Path, *, whole: bool) -> ForeignWeights:
    from fade.adapters.foreign import read_foreign_lora
    from fade.adapters.foreign_model import read_foreign_model

    return (read_foreign_model if whole else read_foreign_lora)(run.models.base, path)


def _inputs(run: RunContext, path: Path) -> dict[str, str]:
    """As `run_inputs`, with what is judged: an adapter and the settings beside it, or a model's denoiser."""
    inputs = run_inputs(run)
    if path.is_dir():
        folder = path / run.models.base.DENOISER
        return {**inputs, "model": hash_path(folder if folder.is_dir() else path)}
    settings = path.parent / CONFIG
    beside = {"adapter settings": hash_path(settings)} if settings.is_file() else {}
    return {**inputs, **beside, "adapter": hash_path(path)}


def _opened(
    run: RunContext, neighborhood: Neighborhood, before: Mapping[str, str], overrides: Sequence[str]
) -> Lineage:
    """What was judged by what. The data are hashed now: nothing was pulled."""
    data = read_here(run.params.data, run.root)
    return open_record(
        run,
        neighborhood,
        overrides=overrides,
        data_md5=data.md5,
        data_files=data.files,
        dvc_files=data.dvc_files,
        inputs=before,
        precision="no",
    )


def _record(
    opened: Lineage, after: Mapping[str, str], judged: EvaluationResult, facts: Mapping[str, str]
) -> Lineage:
    """The closed record. Raises DataError, see `require_unchanged`."""
    metrics = {key: judged.numbers[key] for key in ("metrics", "base_metrics")}
    closed = require_unchanged(opened.finish(after, facts["sha256"], **metrics))
    return Lineage({**closed.content, "foreign": dict(facts)})


def _command(
    targets: Sequence[str], own: str, path: Path, overrides: Sequence[str], params_file: Path
) -> str:
    elsewhere = [] if str(params_file) == "params.yaml" else ["--params", str(params_file)]
    named = [part for target in targets for part in ("--target", target)]
    changed = [part for item in overrides for part in ("--set", item)]
    return shlex.join(["fade", "evaluate", f"--{own}", str(path), *named, *elsewhere, *changed])
