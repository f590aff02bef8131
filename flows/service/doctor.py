"""`fade doctor`: whether this machine is ready for a run, as findings."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.config import Params
from fade.data.manifest import MANIFEST, read_manifest
from fade.errors import BaseModelError, FadeError
from fade.redact import redact
from fade.run.resolve_params import load_params
from fade.utils.files import make_folder

if TYPE_CHECKING:
    from fade.run.context import RunContext

LIBRARIES = (
    *("torch", "diffusers", "transformers", "accelerate", "peft"),
    *("prefect", "mlflow", "dvc", "great_expectations", "fastapi"),
)
FREE_GB = 2.0  # a run with its cache takes about 0.2 GB; the rest is room for MLflow and DVC


@dataclass(frozen=True)
class Finding:
    """The result of one check. ``text``: the state, or the next action, without passwords."""

    name: str
    ok: bool
    text: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", redact(self.text))


def examine(params_file: Path, runs: Path) -> Iterator[Finding]:
    """Check Python, libraries, parameters, data, models, the runs folder and the servers, in this order."""
    from fade.provenance.fingerprints import versions

    supported = sys.version_info >= (3, 11)
    needed = "" if supported else "; 3.11 or newer is needed"
    yield Finding("python", supported, sys.version.split()[0] + needed)
    installed = versions(LIBRARIES)
    missing = [name for name, version in installed.items() if version is None]
    listed = ", ".join(f"{name} {version}" for name, version in installed.items() if version)
    yield Finding("libraries", not missing, f"missing {missing}; run `make setup`" if missing else listed)
    try:
        params = load_params(params_file)
    except FadeError as error:
        yield Finding("params", False, str(error))
        return
    yield Finding("params", True, f"{params_file}, sha256 {params.sha256()[:12]}")
    yield _finding("schedule", _schedule, params)
    import torch

    from fade.run.context import RunContext

    run = RunContext(params, "", runs, params_file.parent)
    yield _finding("pictures", _pictures, run)
    for name, kind in run.models.kinds.items():
        yield _finding(name, _model, name, kind, run)
    yield _finding("names", _names, run)
    cpu = f"CPU, {torch.get_num_threads()} threads"
    yield Finding("device", True, torch.cuda.get_device_name(0) if torch.cuda.is_available() else cpu)
    yield _finding("runs", _runs_folder, runs)
    yield _finding("prefect", _prefect)
    store = os.environ.get("MLFLOW_TRACKING_URI", "")
    yield Finding("mlflow", True, store or "embedded, sqlite in the runs folder")


def _finding(name: str, check: Callable[..., str], *arguments: Any) -> Finding:
    """A check returns the state, or raises FadeError with what is wrong."""
    try:
        return Finding(name, True, check(*arguments))
    except FadeError as error:
        return Finding(name, False, str(error))


def _schedule(params: Params) -> str:
    from flows.service.schedule import check_crons, crons

    check_crons(params.schedule)
    listed = ", ".join(f"{name} {cron or 'never'}" for name, cron in crons(params.schedule).items())
    return f"{listed} ({params.schedule.timezone})"


def _pictures(run: RunContext) -> str:
    from fade.run.preflight import check_pictures

    check_pictures(run)
    images = run.params.data.images
    return f"{images}: {len(read_manifest(run.root / images / MANIFEST))} rows"


def _model(name: str, kind: str, run: RunContext) -> str:
    from fade.models.hub import is_hub_id
    from fade.models.layout import check_model, resolve

    where = run.models.where(name)
    if name == "judge" and not Path(where).exists() and not is_hub_id(where):
        action = (
            f"train one (`fade judge train {run.params.data.images}`), or import one (`fade judge import`)."
        )
        raise BaseModelError(f"{where} is not there.", stage=name, action=action)
    check_model(resolve(where, kind), kind)
    return where


def _names(run: RunContext) -> str:
    """Whether the judge knows what may be erased."""
    from fade.run.preflight import check_labels

    if run.labels() is None or not (run.root / run.params.data.images / MANIFEST).is_file():
        return "not compared: the judge, the pictures, or their names are not there"
    check_labels(run)
    return f"the judge knows all {len(run.vocabulary)} concepts"


def _runs_folder(runs: Path) -> str:
    make_folder(runs)
    free = shutil.disk_usage(runs).free / 1e9
    if free < FREE_GB:
        raise FadeError(f"{runs}, {free:.0f} GB free; {FREE_GB} GB are needed")
    return f"{runs}, {free:.0f} GB free"


def _prefect() -> str:
    from flows.server.runtime import reach

    reach()
    return os.environ.get("PREFECT_API_URL") or "embedded, started with each flow"
