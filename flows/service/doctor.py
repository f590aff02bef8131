"""`fade doctor`: whether this machine is ready for a run, as findings."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fade.config import Params
from fade.errors import FadeError
from fade.run.resolve_params import load_params

LIBRARIES = (
    *("torch", "diffusers", "transformers", "accelerate", "peft"),
    *("prefect", "mlflow", "dvc", "great_expectations", "fastapi"),
)
FREE_GB = 2.0  # a run with its cache takes about 0.2 GB; the rest is room for MLflow and DVC


@dataclass(frozen=True)
class Finding:
    """The result of one check. ``text``: the state, or the next action."""

    name: str
    ok: bool
    text: str


def examine(params_file: Path, runs: Path) -> Iterator[Finding]:
    """Check Python, the libraries, the parameters, the data and models, the runs folder and the servers, in
    this order."""
    from fade.provenance.fingerprints import versions

    supported = sys.version_info >= (3, 11)
    yield Finding(
        "python", supported, sys.version.split()[0] + ("" if supported else "; 3.11 or newer is needed")
    )
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
    yield from _models(params, params_file.parent)
    yield _runs_folder(runs)
    yield from _servers()


def _models(params: Params, root: Path) -> Iterator[Finding]:
    import torch

    from fade.data.manifest import MANIFEST, read_manifest
    from fade.models.loading import check_pipeline, refuse_pickles, resolve

    data = params.data
    try:
        rows = len(read_manifest(root / data.images / MANIFEST))
        yield Finding("pictures", True, f"{data.images}: {rows} rows")
    except FadeError as error:
        yield Finding("pictures", False, str(error))
    for name, where in (("base", data.base), ("clip", data.clip), ("judge", data.judge)):
        try:
            folder = resolve(str(root / where) if (root / where).is_dir() else where, name)
            check_pipeline(folder) if name == "base" else refuse_pickles(folder, name)
            yield Finding(name, True, where)
        except FadeError as error:
            yield Finding(name, False, str(error))
    gpu = torch.cuda.is_available()
    device = torch.cuda.get_device_name(0) if gpu else f"CPU, {torch.get_num_threads()} threads"
    yield Finding("device", True, device)


def _runs_folder(runs: Path) -> Finding:
    from fade.utils.files import make_folder

    try:
        make_folder(runs)
    except FadeError as error:
        return Finding("runs", False, str(error))
    free = shutil.disk_usage(runs).free / 1e9
    needed = "" if free >= FREE_GB else f"; {FREE_GB} GB are needed"
    return Finding("runs", free >= FREE_GB, f"{runs}, {free:.0f} GB free{needed}")


def _servers() -> Iterator[Finding]:
    from flows.server.runtime import reach
    from tasks.registry.connection import redacted

    try:
        reach()
        address = os.environ.get("PREFECT_API_URL") or "embedded, started with each flow"
        yield Finding("prefect", True, address)
    except FadeError as error:
        yield Finding("prefect", False, str(error))
    store = redacted(os.environ.get("MLFLOW_TRACKING_URI", ""))
    yield Finding("mlflow", True, store or "embedded, sqlite in the runs folder")
