"""A file is written whole or not at all; a disk that cannot be written is named with the next action."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from fade.errors import BusyError, StorageError
from fade.utils.files import free_bytes, make_folder, storage_error, write_whole
from fade.utils.locks import lock_folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "numbers.json"
    assert write_whole(path, "old") == write_whole(path, b"new", sync=True) == path
    assert path.read_bytes() == b"new" and names(tmp_path) == ["numbers.json"]


def test_a_failed_write_leaves_the_old_file_and_no_part(tmp_path: Path) -> None:
    folder = tmp_path / "taken"
    (folder / "inside").mkdir(parents=True)
    with pytest.raises(StorageError, match="taken cannot be written") as caught:
        write_whole(folder, "new", stage="report")
    assert str(caught.value).startswith("report: ") and "--runs-dir" in str(caught.value)
    assert names(tmp_path) == ["taken"] and (folder / "inside").is_dir()


def test_a_file_over_the_size_limit_leaves_no_part(tmp_path: Path) -> None:
    """EFBIG from the system itself, in a process of its own: what a quota does."""
    import subprocess
    import sys

    script = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from fade.errors import StorageError\n"
        "from fade.utils.files import write_whole\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n    write_whole(Path(sys.argv[1]), bytes(5000))\n"
        "except StorageError as error:\n    print(error)\n"
    )
    path = tmp_path / "checkpoint"
    path.write_bytes(b"the one before")
    printed = subprocess.run(
        [sys.executable, "-c", script, str(path)], check=True, capture_output=True, text=True
    ).stdout
    assert "checkpoint cannot be written: File too large" in printed
    assert path.read_bytes() == b"the one before" and names(tmp_path) == ["checkpoint"]


def test_a_full_disk_is_called_full(tmp_path: Path) -> None:
    full = storage_error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), tmp_path / "x", "train")
    assert "the disk is full" in str(full) and str(full).startswith("train: ")
    assert "Permission denied" in str(
        storage_error(OSError(errno.EACCES, os.strerror(errno.EACCES)), tmp_path / "x")
    )


def test_free_bytes_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "a" / "b") == pytest.approx(free_bytes(tmp_path), rel=0.2)


def test_a_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StorageError, match="cannot be written"):
        make_folder(tmp_path / "file" / "runs")


def test_a_locked_folder_names_the_process_that_has_it(tmp_path: Path) -> None:
    busy = "'panda' is being erased"
    with (
        lock_folder(tmp_path, busy, "run"),
        pytest.raises(BusyError, match=f"{busy} by process {os.getpid()}"),
        lock_folder(tmp_path, busy, "run"),
    ):
        pytest.fail("two have the lock")
    with lock_folder(tmp_path, "x", "run"):
        pass
