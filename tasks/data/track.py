"""Track a data set for the team: with DVC, or by reference where its pictures may not be passed on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fade.config import DataConfig
from fade.data.importers.records import read_record
from fade.data.importers.verify import reference_file, write_reference
from fade.errors import DataError, UsageError
from fade.utils.files import write_whole
from fade.utils.reading import SETTINGS, read_text
from tasks.data.remote import opened_to_write
from tasks.launch.environment import configure_environment

STAGE = "track"
RESTRICTED = "LicenseRef-"
"""Begins the licence of pictures that may not be passed on."""


def track_set(
    folder: Path, data: DataConfig, repo: Path, runs: Path, *, dvc: bool = False, push: bool = False
) -> dict[str, Any]:
    """``commit``: the files that the team commits; ``note``: what was done. Raises DataError for a folder
    that is no import, UsageError for a push that the licence forbids, RemoteError."""
    record = read_record(folder)
    if not record:
        what = f"{folder} is no imported data set."
        raise DataError(what, stage=STAGE, action="import it with `fade data import`.")
    restricted = str(record["licence"]).startswith(RESTRICTED)
    if push:
        _require_private(restricted, str(record["licence"]), data)
    if restricted and not dvc and not push:
        written = [write_reference(folder), _ignore(folder)]
        note = "by reference: each member imports a copy of the same archives (`fade data check` compares)"
        return {"commit": [str(file) for file in written], "note": note}
    return {"commit": _add(folder, data, repo, runs, push=push), "note": _pushed(data, push=push)}


def _require_private(restricted: bool, licence: str, data: DataConfig) -> None:
    if restricted and data.remote not in data.private_remotes:
        what = (
            f"pictures under {licence} may not be passed on, and the remote {data.remote!r} is not private."
        )
        action = "track them by reference (without --push), or name a remote that only the team reads in "
        raise UsageError(what, stage=STAGE, action=f"{action}data.private_remotes.")


def _pushed(data: DataConfig, *, push: bool) -> str:
    return f"pushed to {data.remote}" if push else "push it with --push"


def _ignore(folder: Path) -> Path:
    """The .gitignore beside the folder, with the folder in it: git never takes the pictures."""
    file, line = folder.parent / ".gitignore", f"/{folder.name}"
    lines = read_text(file, SETTINGS).splitlines() if file.exists() else []
    if line not in lines:
        write_whole(file, "\n".join([*lines, line]) + "\n", stage=STAGE)
    return file


def _add(folder: Path, data: DataConfig, repo: Path, runs: Path, *, push: bool) -> Sequence[str]:
    """`dvc add`, and `dvc push` where it is wanted."""
    configure_environment(runs)
    tracked = folder.with_name(f"{folder.name}.dvc")
    action = "mend the cause and run it again; the pictures are untouched."
    with opened_to_write(repo, data.remote, STAGE, action) as (dvc, _):
        dvc.add(str(folder))
        if push:
            dvc.push(targets=[str(tracked)], remote=data.remote)
    reference_file(folder).unlink(missing_ok=True)
    return [str(tracked), str(_ignore(folder))]
