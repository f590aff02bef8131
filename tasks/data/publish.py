"""Publish (DVC): track the data folder in ``data.dvc`` and push it to a remote. Used by `fade pretrain`,
which makes the data."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from fade.errors import DataError, RemoteError
from fade.data.dvcfile import hash_folder, listing_md5, read_dvc_file
from tasks.launch.environment import configure_environment
from tasks.data.pull import Pulled
from tasks.data.remote import Remote, opened


def publish(
    repo: Path, runs: Path, *, folder: str = "data", remote: str = "embedded", prune: bool = True
) -> Pulled:
    """`dvc add folder` and `dvc push -r remote`; then `folder`.dvc in ``repo`` describes what is there, and
    the remote holds it.

    prune: drop objects that the new ``folder``.dvc no longer names, from the cache and, when the remote is a
    folder of this repository, from it as well (older versions stay in git's history, so that the working tree
    does not grow with each rebuild). Raises DataError without a data folder, RemoteError when an object did
    not arrive, BusyError when DVC is in use."""
    from dvc.exceptions import DvcException

    configure_environment(runs)
    if not hash_folder(repo / folder):
        raise DataError(
            f"{repo / folder} holds no files.",
            stage="publish",
            action="make the data first (`fade pretrain`).",
        )
    with opened(repo) as dvc, closing(Remote(dvc, remote)) as store:
        if store.is_folder:
            store.root.mkdir(parents=True, exist_ok=True)
        try:
            dvc.add(str(repo / folder))
            dvc.push(targets=[str(repo / f"{folder}.dvc")], remote=remote)
            if prune:
                inside = store.is_folder and store.root.resolve().is_relative_to(repo.resolve())
                dvc.gc(workspace=True, cloud=inside, remote=remote)
        except DvcException as error:
            action = "mend the cause and publish again; the data folder is untouched."
            raise RemoteError(f"{store}: {error}.", stage="publish", action=action) from error
    tracked, files = read_dvc_file(repo / f"{folder}.dvc"), hash_folder(repo / folder)
    if listing_md5(files) != tracked.md5:
        raise DataError(
            f"{repo / folder} changed while it was published.", stage="publish", action="publish again."
        )
    size = sum((tracked.folder / name).stat().st_size for name in files)
    return Pulled(tracked.md5, size, len(files), tracked.folder, files)


publish_task = task(name="publish", cache_policy=NO_CACHE)(publish)
