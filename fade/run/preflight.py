"""Faults that a run would meet after a pull that brings nothing are refused before any server starts."""

from __future__ import annotations

from pathlib import Path

from fade.data.dvcfile import hash_folder, listing_md5, read_dvc_file
from fade.errors import BaseModelError, ConfigError, FadeError, UnknownNameError
from fade.run.context import RunContext
from fade.run.resolve_params import check_target


def preflight(run: RunContext) -> None:
    """Raises UnknownNameError or ConfigError for a target or too many neighbours, BaseModelError for a model
    directory that is not there.

    Only where the data folder is, byte for byte, what the .dvc file names: otherwise the pull may bring what
    is missing. What else is wrong with the data is the data checks' to say."""
    try:
        _refuse(run)
    except (UnknownNameError, ConfigError, BaseModelError):
        if _nothing_to_pull(run):
            raise
    except FadeError:
        return


def _refuse(run: RunContext) -> None:
    data = run.params.data
    for stage, where in (("base", data.base), ("clip", data.clip), ("judge", data.judge)):
        local = run.models.local(where)
        # a hub id is fetched when its turn comes
        if local.startswith((".", "/", "data/")) and not Path(local).is_dir():
            from fade.models.loading import resolve

            resolve(local, stage)
    for target in run.targets:
        check_target(run.params, target, run.vocabulary)
    near = run.params.neighborhood
    if (needed := near.k + near.k_heldout) > (others := len(run.vocabulary) - len(run.targets)):
        what = f"neighborhood.k and neighborhood.k_heldout ask for {needed} concepts beside the target, and "
        raise ConfigError(f"{what}there are {others}.", stage="config", action="lower one of them.")


def _nothing_to_pull(run: RunContext) -> bool:
    try:
        dvcfile = read_dvc_file(run.root / run.params.data.dvc_file)
        return listing_md5(hash_folder(dvcfile.folder)) == dvcfile.md5
    except (FadeError, OSError):
        return False
