"""Rebuild the embedded world: drawings -> corpus -> CLIP -> codec -> autoencoder -> UNet -> judge -> data/."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from prefect import flow

from fade import progress
from fade.config import parse_params
from fade.job import write_json
from tasks.pretrain import build_task, measure_task, publish_task


@flow(name="pretrain", validate_parameters=False)
def pretrain(params: dict[str, Any], runs: str = "runs", root: str = ".", publish: bool = False) -> dict[str, Any]:
    """Build the world below ``runs/pretrain`` (resumable), measure it, put it in ``data/``, and publish it when asked."""
    settings = parse_params(params)
    work, home = Path(runs) / "pretrain", Path(root)
    start = time.time()
    world = build_task(work, settings.pretrain, Path(runs), settings.register_)
    swap(world, home / "data")
    numbers = measure_task(settings, Path(runs), home)
    numbers["seconds"] = round(time.time() - start, 1)
    write_json(work / "world.json", numbers)
    if publish:
        numbers["data_md5"] = publish_task(home, Path(runs)).md5
    progress.report("publish", 1, 1)
    return numbers


def swap(new: Path, data: Path) -> None:
    """Put a copy of ``new`` in the place of ``data``; the old one goes only when the new one is whole."""
    fresh, old = data.with_name(f".{data.name}.new"), data.with_name(f".{data.name}.old")
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    shutil.copytree(new, fresh)
    if data.exists():
        data.rename(old)
    fresh.rename(data)
    shutil.rmtree(old, ignore_errors=True)
