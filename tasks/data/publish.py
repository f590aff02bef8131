"""Publish (DVC): track a world's folder in its .dvc file and push it. `fade pretrain` makes the folder."""

from __future__ import annotations

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from fade.data.dvcfile import hash_folder, listing_md5, read_dvc_file
from fade.errors import DataError
from tasks.data.pull import Pulled, pulled
from tasks.data.remote import opened_to_write
from tasks.launch.environment import configure_environment

STAGE = "publish"


def publish(repo: Path, runs: Path, place: str = "data", *, remote: str = "embedded") -> Pulled:
    """`dvc add` and `dvc push -r remote` of the folder ``place``: then ``place.dvc`` in ``repo`` describes
    it, and the remote holds it.

    Objects that it no longer names are dropped from the cache and, when the remote is a folder of this
    repository, from it as well (older versions stay in git's history, so that the working tree does not grow
    with each rebuild). Raises DataError without a data folder, RemoteError when an object did not arrive,
    BusyError when DVC is in use."""
    configure_environment(runs)
    folder, tracked = repo / place, repo / f"{place}.dvc"
    if not hash_folder(folder):
        action = "make the data first (`fade pretrain`)."
        raise DataError(f"{folder} holds no files.", stage=STAGE, action=action)
    action = "mend the cause and publish again; the data folder is untouched."
    with opened_to_write(repo, remote, STAGE, action) as (dvc, store):
        dvc.add(str(folder))
        dvc.push(targets=[str(tracked)], remote=remote)
        inside = store.root is not None and store.root.resolve().is_relative_to(repo.resolve())
        dvc.gc(workspace=True, cloud=inside, remote=remote)
    dvcfile, files = read_dvc_file(tracked), hash_folder(folder)
    if listing_md5(files) != dvcfile.md5:
        raise DataError(f"{folder} changed while it was published.", stage=STAGE, action="publish again.")
    return pulled(folder, dvcfile.md5, files)


publish_task = task(name="publish", cache_policy=NO_CACHE)(publish)
