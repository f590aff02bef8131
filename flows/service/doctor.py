"""Is this machine ready for a run? One finding a line, each with what to do."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fade.config import Params, load_params
from fade.errors import FadeError

LIBRARIES = (
    "torch",
    "diffusers",
    "transformers",
    "accelerate",
    "peft",
    "prefect",
    "mlflow",
    "dvc",
    "great_expectations",
    "fastapi",
)
FREE_GB = 2.0  # a run with its cache takes about 0.2 GB; the rest is room for MLflow and DVC


@dataclass(frozen=True)
class Finding:
    """What was looked at, whether it is well, and what was found or what to do."""

    name: str
    ok: bool
    text: str


def examine(params_file: Path, runs: Path) -> Iterator[Finding]:
    """Look at Python, the libraries, the parameters, the data and models, the runs folder and the servers, in
    this order."""
    from fade.provenance.fingerprints import versions

    fine = sys.version_info >= (3, 11)
    yield Finding("python", fine, sys.version.split()[0] + ("" if fine else "; 3.11 or newer is needed"))
    found = versions(LIBRARIES)
    missing = [name for name, version in found.items() if version is None]
    listed = ", ".join(f"{name} {version}" for name, version in found.items() if version)
    yield Finding("libraries", not missing, f"missing {missing}; run `make setup`" if missing else listed)
    try:
        params = load_params(params_file)
    except FadeError as error:
        yield Finding("params", False, str(error))
        return
    yield Finding("params", True, f"{params_file}, sha256 {params.sha256()[:12]}")
    yield from _models(params, params_file.parent)
    yield _writable(runs)
    yield from _servers()


def _models(params: Params, root: Path) -> Iterator[Finding]:
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
            home = resolve(str(root / where) if (root / where).is_dir() else where, name)
            check_pipeline(home) if name == "base" else refuse_pickles(home, name)
            yield Finding(name, True, where)
        except FadeError as error:
            yield Finding(name, False, str(error))
    import torch

    device = (
        torch.cuda.get_device_name(0)
        if torch.cuda.is_available()
        else f"CPU, {torch.get_num_threads()} threads"
    )
    yield Finding("device", True, device)


def _writable(runs: Path) -> Finding:
    from fade.utils.files import make_folder

    try:
        make_folder(runs)
    except FadeError as error:
        return Finding("runs", False, str(error))
    free = shutil.disk_usage(runs).free / 1e9
    return Finding(
        "runs",
        free >= FREE_GB,
        f"{runs}, {free:.0f} GB free" + ("" if free >= FREE_GB else f"; {FREE_GB} GB are needed"),
    )


def _servers() -> Iterator[Finding]:
    from flows.server.runtime import reach

    url = os.environ.get("PREFECT_API_URL")
    try:
        reach()
        yield Finding("prefect", True, url or "embedded, started with each flow")
    except FadeError as error:
        yield Finding("prefect", False, str(error))
    from tasks.registry.connection import redacted

    yield Finding(
        "mlflow",
        True,
        redacted(os.environ.get("MLFLOW_TRACKING_URI", "")) or "embedded, sqlite in the runs folder",
    )
