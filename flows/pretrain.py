"""Rebuild an embedded world: drawings -> text towers -> CLIP -> autoencoder -> judges -> denoiser -> data/.

Stable Diffusion's world is ``data/``; another family's is ``worlds/<family>/`` and shares the first one's
pictures, CLIP, autoencoder and judges."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from prefect import flow

from fade.run.resolve_params import parse_params
from fade.utils import progress
from fade.utils.files import write_json
from fade.utils.locks import lock_folder
from tasks.stages.pretrain import build_task, measure_task, publish_task


@flow(name="pretrain", validate_parameters=False)
def pretrain(
    params: dict[str, Any],
    runs: str = "runs",
    root: str = ".",
    publish: bool = False,
    family: str = "sd",
    parts: str | None = None,
) -> dict[str, Any]:
    """Build the family's world below ``runs/pretrain`` (resumable), measure it, put it in its place, and
    publish it when asked.

    parts: the folder of a finished world whose pictures, CLIP, autoencoder and judges are taken as they are;
    families but "sd" take data/."""
    settings = parse_params(params)
    work, home = Path(runs) / "pretrain", Path(root)
    folder = home / place_of(family)
    start = time.time()
    with lock_folder(work, "the world is being built", "pretrain"):
        shared = Path(parts) if parts else None if family == "sd" else home / "data"
        world = build_task(work, family, shared, settings.pretrain, Path(runs), settings.register_)
        swap(world, folder, work / "previous")
        own = measured_data(folder, folder if family == "sd" else shared or folder)
        measured = parse_params({**params, "data": {**params["data"], **own}})
        numbers: dict[str, Any] = measure_task(measured, Path(runs), home)
        numbers["seconds"] = round(time.time() - start, 1)
        write_json(work / f"{family}.json", numbers)
        if publish:
            numbers["data_md5"] = publish_task(home, Path(runs), place_of(family)).md5
    progress.report("publish", 1, 1)
    return numbers


def place_of(family: str) -> str:
    """The folder of a family's world, relative to the project."""
    return "data" if family == "sd" else f"worlds/{family}"


def measured_data(place: Path, parts: Path) -> dict[str, str]:
    """Keys of the section `data` by which the world at ``place`` is measured: its base, and the pictures, the
    CLIP and the judge of the world ``parts`` on which it stands, whatever params.yaml names."""
    of_parts = {"images": "emoji", "clip": "base/clip", "judge": "judge"}
    base = {"base": str(place.absolute() / "base"), "base_config": "", "erase": "concepts"}
    return {**base, **{key: str(parts.absolute() / one) for key, one in of_parts.items()}}


def swap(new: Path, data: Path, previous: Path) -> None:
    """Put a copy of ``new`` in the place of ``data``, when it is whole; what was there lies in ``previous``
    then."""
    data.parent.mkdir(parents=True, exist_ok=True)
    fresh, old = data.with_name(f".{data.name}.new"), data.with_name(f".{data.name}.old")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(new, fresh)
    if data.exists():
        shutil.rmtree(old, ignore_errors=True)  # an earlier swap was cut off after both renames
        data.rename(old)
    fresh.rename(data)
    if old.exists():  # also when an earlier swap was cut off here
        shutil.rmtree(previous, ignore_errors=True)
        shutil.move(old, previous)
