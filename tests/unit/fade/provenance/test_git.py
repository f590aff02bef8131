"""What git says of a checkout, whatever the environment, the index and the user's settings hide. Real
repositories."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fade.provenance.git import changes, git
from fade.provenance.lineage import code_state
from fade.utils import notes
from tasks.launch.git_worktree import checkout, file_at, has_commit

AUTHOR = ("-c", "user.name=ann", "-c", "user.email=ann@example.org")


@pytest.fixture(autouse=True)
def _fresh_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "_written", set())


def repository(folder: Path, text: str = "1") -> Path:
    """A checkout with a package, a module at its root and a .gitignore, all committed."""
    (folder / "fade").mkdir(parents=True)
    (folder / "fade" / "code.py").write_text(f"x = {text}\n")
    (folder / "main.py").write_text("import fade.code\n")
    (folder / ".gitignore").write_text("local*.py\n/sitecustomize.py\n/torch/\n/data/\n.venv\n__pycache__/\n")
    for line in (("init", "-q"), ("add", "."), (*AUTHOR, "commit", "-qm", "one")):
        assert git(folder, *line) is not None
    return folder


def test_another_repository_in_the_environment_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, other = repository(tmp_path / "ours"), repository(tmp_path / "other", "2")
    before = code_state(ours)
    assert before["dirty"] is False
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "no-index"))
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(other / ".git" / "objects"))
    monkeypatch.setenv("GIT_CONFIG_PARAMETERS", "'core.worktree=/'")
    assert code_state(ours) == before
    assert has_commit(before["commit"], ours) and not has_commit(before["commit"], other)
    assert file_at(before["commit"], "fade/code.py", ours) == "x = 1\n"
    with checkout(before["commit"], ours) as tree:
        assert (tree / "fade" / "code.py").read_text() == "x = 1\n"


def assume_unchanged(top: Path) -> None:
    git(top, "update-index", "--assume-unchanged", "fade/code.py")
    (top / "fade" / "code.py").write_text("x = 2\n")


def skip_worktree(top: Path) -> None:
    git(top, "update-index", "--skip-worktree", "fade/code.py")
    (top / "fade" / "code.py").write_text("x = 2\n")


def remove_unseen(top: Path) -> None:
    git(top, "update-index", "--assume-unchanged", "fade/code.py")
    (top / "fade" / "code.py").unlink()


def ignored_module(top: Path) -> None:
    (top / "sitecustomize.py").write_text("")


def ignored_module_of_the_package(top: Path) -> None:
    (top / "fade" / "local_settings.py").write_text("")


def ignored_package(top: Path) -> None:
    (top / "torch").mkdir()
    (top / "torch" / "__init__.py").write_text("")


def privately_ignored_module(top: Path) -> None:
    (top / ".git" / "info" / "exclude").write_text("torch.py\n")
    (top / "torch.py").write_text("")


def ignored_binary(top: Path) -> None:
    (top / ".git" / "info" / "exclude").write_text("*.so\n")
    (top / "fade" / "code.so").write_text("")


def monitored(top: Path) -> None:
    git(top, "config", "core.fsmonitor", "true")
    git(top, "update-index", "--assume-unchanged", "main.py")
    (top / "main.py").write_text("")


def linked_module(top: Path) -> None:
    (top.parent / "outside.py").write_text("")
    (top / "fade" / "linked.py").symlink_to(top.parent / "outside.py")
    commit(top)


def linked_template(top: Path) -> None:
    (top / "fade" / "page.html").symlink_to("../../page.html")  # it need not be there yet
    commit(top)


def linked_package(top: Path) -> None:
    (top.parent / "torch").mkdir()
    (top.parent / "torch" / "__init__.py").write_text("")
    (top / "torch").symlink_to("../torch")
    (top / ".gitignore").write_text("")
    commit(top)


def linked_into_git(top: Path) -> None:
    (top / ".git" / "own.py").write_text("")
    (top / "own.py").symlink_to(".git/own.py")
    commit(top)


def commit(top: Path) -> None:
    assert git(top, "add", ".") is not None and git(top, *AUTHOR, "commit", "-qm", "two") is not None


def test_links_within_a_checkout_and_links_beside_the_code_are_no_change(tmp_path: Path) -> None:
    top = repository(tmp_path / "top")
    (top / "fade" / "same.py").symlink_to("code.py")
    (top / "docs").symlink_to("/usr/share/doc")
    commit(top)
    assert changes(top) == ([], [])


@pytest.mark.parametrize(
    ("hide", "name"),
    [
        (linked_module, "fade/linked.py"),
        (linked_template, "fade/page.html"),
        (linked_package, "torch"),
        (linked_into_git, "own.py"),
        (assume_unchanged, "fade/code.py"),
        (skip_worktree, "fade/code.py"),
        (remove_unseen, "fade/code.py"),
        (ignored_module, "sitecustomize.py"),
        (ignored_module_of_the_package, "fade/local_settings.py"),
        (ignored_package, "torch/"),
        (privately_ignored_module, "torch.py"),
        (ignored_binary, "fade/code.so"),
        (monitored, "main.py"),
    ],
)
def test_what_git_status_does_not_show_is_found_and_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], hide: Callable[[Path], None], name: str
) -> None:
    top = repository(tmp_path / "top")
    hide(top)
    assert git(top, "status", "--porcelain") == ""
    assert changes(top) == ([], [name])
    assert code_state(top)["dirty"] is True and code_state(top)["dirty"] is True
    assert capfd.readouterr().err.count(name) == 1


def test_a_changed_file_whose_time_is_set_back_is_found(tmp_path: Path) -> None:
    top = repository(tmp_path / "top")
    file, then = top / "fade" / "code.py", (10**9, 10**9)
    os.utime(file, then)
    git(top, "update-index", "--refresh")
    git(top, "config", "core.trustctime", "false")
    git(top, "config", "core.checkStat", "minimal")
    assert changes(top) == ([], [])
    time.sleep(1.1)  # git compares whole seconds of the time that nobody can set
    file.write_text("x = 2\n")
    os.utime(file, then)
    line = ("git", "-C", str(top), "--no-optional-locks", "status", "--porcelain")
    plain = subprocess.run(line, capture_output=True, check=True)
    assert plain.stdout == b"" and changes(top) == (["fade/code.py"], [])


def test_untracked_files_that_a_setting_hides_are_found(tmp_path: Path) -> None:
    top = repository(tmp_path / "top")
    git(top, "config", "status.showUntrackedFiles", "no")
    (top / "fade" / "new.py").write_text("")
    assert changes(top) == (["fade/new.py"], [])


def test_an_edit_of_the_same_size_whose_time_was_set_back_is_found(tmp_path: Path) -> None:
    top = repository(tmp_path / "top")
    file = top / "fade" / "code.py"
    os.utime(file, (10**9, 10**9))
    git(top, "config", "core.trustctime", "false")
    git(top, "config", "core.checkStat", "minimal")
    subprocess.run(["git", "-C", top, "update-index", "--refresh"], check=True)
    time.sleep(1.1)  # git compares whole seconds
    file.write_text("x = 2\n")
    os.utime(file, (10**9, 10**9))
    assert subprocess.run(["git", "-C", top, "status", "-s"], capture_output=True, check=True).stdout == b""
    assert changes(top) == (["fade/code.py"], [])


def test_objects_put_in_place_of_others_do_not_count(tmp_path: Path) -> None:
    """``git replace`` gives a commit the tree of another: the record would name a commit without its code."""
    top = repository(tmp_path / "top")
    first = (git(top, "rev-parse", "HEAD") or "").strip()
    (top / "fade" / "code.py").write_text("x = 2\n")
    git(top, *AUTHOR, "commit", "-qam", "two")
    subprocess.run(["git", "-C", top, "replace", first, "HEAD"], check=True)
    git(top, "reset", "-q", "--soft", first)
    assert subprocess.run(["git", "-C", top, "status", "-s"], capture_output=True, check=True).stdout == b""
    assert code_state(top) | {"version": ""} == {"version": "", "commit": first, "dirty": True}


def test_what_no_import_finds_and_what_a_sparse_checkout_leaves_out_is_no_change(tmp_path: Path) -> None:
    top = repository(tmp_path / "top")
    for name in ("fade/__pycache__/code.cpython-311.pyc", ".venv/torch.py", "data/table.py"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text("")
    git(top, "update-index", "--skip-worktree", "main.py")
    (top / "main.py").unlink()
    git(top, "update-index", "--assume-unchanged", "fade/code.py")  # as it was
    assert changes(top) == ([], [])


def test_a_commit_that_git_does_not_know_is_explained_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    top = tmp_path / "moved"
    top.mkdir()
    (top / ".git").write_text(f"gitdir: {tmp_path}/gone/.git/worktrees/moved\n")
    assert [code_state(top)["commit"], code_state(top)["commit"]] == [None, None]
    text = capfd.readouterr().err
    assert text.count(f"the commit of {top} is unknown: fatal: not a git repository") == 1
    assert "Next: repair the checkout" in text


def test_outside_a_checkout_there_is_nothing_to_explain(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert code_state(tmp_path)["commit"] is None
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_the_checkout_of_another_user_is_explained(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    top = repository(tmp_path / "theirs")
    for path in (top, *top.rglob("*")):
        os.chown(path, 65534, 65534)
    monkeypatch.setenv("HOME", str(tmp_path))  # no safe.directory of this user's
    monkeypatch.delenv("SUDO_UID", raising=False)
    assert code_state(top)["commit"] is None and code_state(top)["dirty"] is None
    text = capfd.readouterr().err
    assert text.count("another user's") == 1 and f"safe.directory {top}" in text
