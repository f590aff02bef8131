"""git: whether a commit is there, what a file was at it, and a clean copy of the code as it was."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fade.errors import AuditError
from fade.provenance.lineage import REPOSITORY

STAGE = "audit"
SECONDS = 300.0


def has_commit(commit: str, repository: Path = REPOSITORY) -> bool:
    """True when the repository holds the commit; False for what is no repository, too."""
    return _git(repository, "cat-file", "-e", f"{commit}^{{commit}}") is not None


def file_at(commit: str, path: str, repository: Path = REPOSITORY) -> str | None:
    """The text of a tracked file at a commit; None when it was not there."""
    return _git(repository, "show", f"{commit}:{path}")


@contextmanager
def checkout(commit: str, repository: Path = REPOSITORY) -> Iterator[Path]:
    """A clean copy of the code at ``commit``, removed afterwards. Raises AuditError.

    A clone that shares the objects, not a worktree of the repository: a killed audit leaves no entry in it,
    and a commit of no branch can be had as well. The machine's own access to the data (``.dvc/config.local``)
    goes with it."""
    home = Path(tempfile.mkdtemp(prefix="fade-audit-"))
    try:
        tree = home / "code"
        quiet = ("-c", "advice.detachedHead=false", "-c", "core.hooksPath=/dev/null")
        cloned = _git(
            repository,
            *quiet,
            "clone",
            "--quiet",
            "--shared",
            "--no-checkout",
            str(repository.resolve()),
            str(tree),
        )
        if cloned is None or _git(tree, *quiet, "checkout", "--quiet", "--detach", commit) is None:
            what = f"the code of commit {commit[:12]} cannot be checked out of {repository}."
            raise AuditError(
                what, stage=STAGE, action="fetch the commit (`git fetch --all`), and audit again."
            )
        access = repository / ".dvc" / "config.local"
        if access.is_file():
            shutil.copyfile(access, tree / ".dvc" / "config.local")
        yield tree
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(folder), *arguments],
            capture_output=True, text=True, timeout=SECONDS, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
