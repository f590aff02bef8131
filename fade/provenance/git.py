"""git, about one repository and nothing else; what a checkout holds beside its commit. Ours."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

SECONDS = 20.0
PACKAGES = ("fade", "flows", "tasks")
"""Folders of the repository that the code is imported from, beside the modules at its root."""
_MODULES = (".py", ".pyc", ".so", ".pyd")
_SETTINGS = ("core.fsmonitor=false", "core.trustctime=true", "core.checkStat=default", "core.quotePath=false")
_PLAIN = (*(part for setting in _SETTINGS for part in ("-c", setting)), "--no-replace-objects")
"""Without settings under which git looks away: a monitor of files, a file's times that are not compared,
objects put in place of others."""


def git(folder: Path, *arguments: str, seconds: float = SECONDS) -> str | None:
    """Standard output of a git command in ``folder``; None when it fails or takes longer than ``seconds``."""
    done = run_git(folder, *arguments, seconds=seconds)
    return done.stdout if done is not None and done.returncode == 0 else None


def run_git(
    folder: Path, *arguments: str, seconds: float = SECONDS
) -> subprocess.CompletedProcess[str] | None:
    """A git command in ``folder``; None without git, or when it takes longer than ``seconds``.

    The environment is ours without GIT_*: GIT_DIR, GIT_INDEX_FILE and their kind, which a hook or a shell may
    have left, would answer for another repository."""
    # no lock is taken: a record must not disturb a checkout that somebody works in
    line = ["git", "--no-optional-locks", *_PLAIN, "-C", str(folder), *arguments]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        return subprocess.run(
            line,
            env={**clean, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return None


def is_top(repository: Path) -> bool:
    """True for the root of a checkout. An installed copy may lie inside somebody else's (a virtual
    environment in a project): its commit says nothing."""
    top = git(repository, "rev-parse", "--show-toplevel")
    return top is not None and Path(top.removesuffix("\n")).resolve() == repository.resolve()


def why_unknown(repository: Path) -> str:
    """Why git does not know the commit of a checkout, with the next action; empty outside a checkout."""
    if not os.path.lexists(repository / ".git"):
        return ""
    done = run_git(repository, "rev-parse", "--verify", "HEAD")
    if done is None:
        reason, action = "git is not installed, or did not answer", "install git"
    elif "dubious ownership" in done.stderr:
        reason = "the checkout is another user's, and git does not read it"
        action = f"git config --global --add safe.directory {repository.resolve()}"
    else:
        reason = (done.stderr.strip().splitlines() or ["its root is elsewhere (core.worktree)"])[0]
        action = "repair the checkout, or clone it again"
    return f"the commit of {repository} is unknown: {reason}. Runs cannot be audited. Next: {action}."


def changes(repository: Path) -> tuple[list[str], list[str]] | None:
    """What a checkout has beside its commit: changed and new files, which ``git status`` shows, and those
    that it does not: changed files that the index hides (assume-unchanged, skip-worktree), links of the code
    out of the checkout, and ignored files that Python would import. None when git fails."""
    every = ("--no-renames", "--untracked-files=all", "--ignored=matching")
    listed, hidden = git(repository, "status", "--porcelain", "-z", *every), _hidden_changes(repository)
    if listed is None or hidden is None:
        return None
    entries = [(entry[:2], entry[3:]) for entry in listed.split("\0") if entry]
    shown = [name for kind, name in entries if kind != "!!"]
    ignored = [name for kind, name in entries if kind == "!!" and _is_imported(repository, name)]
    return shown, sorted({*hidden, *ignored})


def _hidden_changes(repository: Path) -> list[str] | None:
    """Files that the index says not to look at, and that have other bytes than it says; links of the code out
    of the checkout, whose bytes no commit holds."""
    listed = git(repository, "ls-files", "-v", "-s", "-z")
    if listed is None:
        return None
    expected: dict[str, str] = {}
    changed = []
    for entry in filter(None, listed.split("\0")):
        facts, _, name = entry.partition("\t")
        tag, mode, sha1, _stage = facts.split()
        if mode == "120000" and _leads_out(repository, name):
            changed.append(name)
            continue
        if not (tag.islower() or tag == "S") or mode == "160000":
            continue
        path = repository / name
        if path.is_file() and not path.is_symlink():
            expected[name] = sha1
        elif path.is_symlink() or tag != "S":  # a sparse checkout leaves files out, and says so by S
            changed.append(name)
    if expected:
        hashes = git(repository, "hash-object", "--", *expected)
        if hashes is None:
            return None
        changed += [name for name, now in zip(expected, hashes.split(), strict=True) if expected[name] != now]
    return changed


def _leads_out(repository: Path, name: str) -> bool:
    """True for a link to something outside of the checkout that an import of ours could find, or that lies in
    a package."""
    target, top = Path(os.path.realpath(repository / name)), Path(os.path.realpath(repository))
    inside = target.is_relative_to(top) and not target.is_relative_to(top / ".git")
    return not inside and (Path(name).parts[0] in PACKAGES or _is_imported(repository, name))


def _is_imported(repository: Path, name: str) -> bool:
    """True for an ignored file or folder that an import of ours could find: a module at the root, or anything
    but compiled copies in a package."""
    path, parts = repository / name, Path(name).parts
    if "__pycache__" in parts:
        return False
    if path.is_dir():
        modules = path.rglob("*") if parts[0] in PACKAGES else path.glob("__init__.*")
        return any(file.suffix in _MODULES and "__pycache__" not in file.parts for file in modules)
    return path.suffix in _MODULES and (len(parts) == 1 or parts[0] in PACKAGES)
