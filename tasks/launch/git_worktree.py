"""git: whether a commit exists, a file's text at a commit, a clean copy of the code at a commit."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fade.errors import AuditError
from fade.provenance.git import git
from fade.provenance.lineage import REPOSITORY

STAGE = "audit"
SECONDS = 300.0


def has_commit(commit: str, repository: Path = REPOSITORY) -> bool:
    """True when the repository holds the commit; False also for a folder that is no repository."""
    return git(repository, "cat-file", "-e", f"{commit}^{{commit}}") is not None


def file_at(commit: str, path: str, repository: Path = REPOSITORY) -> str | None:
    """The text of a tracked file at a commit; None when the commit has no such file."""
    return git(repository, "show", f"{commit}:{path}")


@contextmanager
def checkout(commit: str, repository: Path = REPOSITORY) -> Iterator[Path]:
    """A clean copy of the code at ``commit``, removed afterwards. Raises AuditError.

    A clone that shares the objects, not a worktree of the repository: a killed audit leaves no entry in the
    repository, and a commit of no branch can be checked out. This machine's access to the data
    (``.dvc/config.local``) is copied along."""
    home = Path(tempfile.mkdtemp(prefix="fade-audit-"))
    try:
        tree = home / "code"
        settings = ("-c", "advice.detachedHead=false", "-c", "core.hooksPath=/dev/null")
        clone = ("clone", "--quiet", "--shared", "--no-checkout", str(repository.resolve()), str(tree))
        cloned = git(repository, *settings, *clone, seconds=SECONDS)
        switch = (*settings, "checkout", "--quiet", "--detach", commit)
        if cloned is None or git(tree, *switch, seconds=SECONDS) is None:
            what = f"the code of commit {commit[:12]} cannot be checked out of {repository}."
            action = "fetch the commit (`git fetch --all`), and audit again."
            raise AuditError(what, stage=STAGE, action=action)
        access = repository / ".dvc" / "config.local"
        if access.is_file():
            shutil.copyfile(access, tree / ".dvc" / "config.local")
        yield tree
    finally:
        shutil.rmtree(home, ignore_errors=True)
