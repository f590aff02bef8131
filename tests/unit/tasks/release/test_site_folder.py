"""Which folders a site takes the place of: those that hold a site of ours as it was written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fade.errors import UsageError
from tasks.release.site_folder import new_folder, write_files, write_manifest


def site(folder: Path) -> Path:
    write_files(folder, {"index.html": "a page", "models/panda/index.html": "another"})
    write_manifest(folder)
    return folder


def edited(folder: Path) -> None:
    (folder / "index.html").write_text("my thesis")


def linked(folder: Path) -> None:
    shutil.copy(folder / "index.html", folder.parent / "page")
    (folder / "index.html").unlink()
    (folder / "index.html").symlink_to(folder.parent / "page")


def empty_folder(folder: Path) -> None:
    (folder / "notes").mkdir()


def folder_of_a_name(folder: Path) -> None:
    (folder / "index.html").unlink()
    (folder / "index.html").mkdir()


@pytest.mark.parametrize("change", [edited, linked, empty_folder, folder_of_a_name])
def test_what_is_not_as_the_manifest_has_it_is_somebody_elses(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    """Whoever writes a manifest of our kind must not have another's files deleted by it."""
    out = site(tmp_path / "public")
    with new_folder(out) as fresh:
        site(fresh)
    change(out)
    before = sorted(out.rglob("*"))
    with pytest.raises(UsageError, match="which is not of the site"), new_folder(out) as fresh:
        site(fresh)
    assert sorted(out.rglob("*")) == before
