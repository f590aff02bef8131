"""A file is written whole or not at all; a disk that cannot be written is named with the next action."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from fade.errors import BusyError, StorageError
from fade.utils.files import (
    free_bytes,
    make_folder,
    result_file,
    storage_error,
    writable_file,
    write_json,
    write_whole,
)
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
    assert str(caught.value).startswith("report: ") and "it is a folder. Next: " in str(caught.value)
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


def test_a_link_stays_one_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "team").mkdir()
    ledger, link, second = tmp_path / "team" / "requests.yaml", tmp_path / "requests.yaml", tmp_path / "again"
    ledger.write_text("old")
    link.symlink_to("team/requests.yaml")
    second.symlink_to(link)
    write_whole(second, "new", sync=True)
    assert link.is_symlink() and second.is_symlink() and ledger.read_text() == "new"
    assert not ledger.is_symlink() and names(tmp_path / "team") == ["requests.yaml"]


def test_a_link_to_nothing_yet_makes_its_target(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_whole(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "target").read_text() == "new"


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o755])
def test_a_replaced_file_keeps_its_mode(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "requests.yaml"
    path.write_text("old")
    path.chmod(mode)
    write_whole(path, "new")
    assert stat.S_IMODE(path.stat().st_mode) == mode and path.read_text() == "new"


def test_a_new_file_has_the_mode_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        path = write_whole(tmp_path / "new", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_a_replaced_file_keeps_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "requests.yaml"
    path.write_text("old")
    os.chown(path, 65534, 65534)
    path.chmod(0o600)
    write_whole(path, "new")
    found = path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (65534, 65534, 0o600)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


def _circle(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda path: path.mkdir(), "a folder"),
        (os.mkfifo, "a pipe"),
        (_socket, "a socket"),
        (_circle, "a link that leads in a circle"),
    ],
    ids=["folder", "pipe", "socket", "circle"],
)
def test_what_is_no_file_is_refused_and_stays(
    tmp_path: Path, make: Callable[[Path], None], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    make(Path("out"))
    before = Path("out").lstat()
    for path in (Path("out"), tmp_path / "out"):
        with pytest.raises(StorageError, match=f"cannot be written: it is {what}"):
            write_whole(path, "new")
    assert Path("out").lstat() == before and names(tmp_path) == ["out"]


def test_proc_is_no_full_disk() -> None:
    assert free_bytes(Path("/proc/self")) > 2**60 > free_bytes(Path(__file__))
    for path in (Path("/proc/x/y"), Path("/proc/x")):
        with pytest.raises(StorageError) as caught:
            write_whole(path, "x")
        assert "full" not in str(caught.value) and "cannot be written: " in str(caught.value)


def test_a_result_replaces_a_file_of_its_own_kind_alone(tmp_path: Path) -> None:
    params, text, picture = (tmp_path / name for name in ("params.yaml", "text.png", "grid.PNG"))
    for path in (params, text):
        path.write_text("train: {}")
        with pytest.raises(StorageError, match=r"is not replaced\. Next: name another file with --out"):
            result_file(path, ".png", "generate", b"\x89PNG")
    picture.write_bytes(b"\x89PNG and more")
    (tmp_path / "link.png").symlink_to(picture)
    for path in (picture, tmp_path / "link.png", tmp_path / "new.png", tmp_path / "new"):
        assert result_file(path, ".png", "generate", b"\x89PNG")
    with pytest.raises(StorageError, match="it is a folder"):
        result_file(Path(), ".safetensors", "compose")


def test_a_device_stays_a_device(tmp_path: Path) -> None:
    (tmp_path / "out.png").symlink_to("/dev/null")
    for out in (Path("/dev/null"), tmp_path / "out.png"):
        with pytest.raises(StorageError, match="it is a device"):
            write_whole(out, "new")
        with pytest.raises(StorageError, match=r"it is a device. Next: name another file with --out."):
            writable_file(out, "generate", "name another file with --out.")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_name_of_255_bytes_can_be_written(tmp_path: Path) -> None:
    path = write_whole(tmp_path / ("é" * 127 + "x"), "whole")
    assert path.read_text() == "whole" and len(names(tmp_path)) == 1
    with pytest.raises(StorageError, match="File name too long"):
        write_whole(tmp_path / ("é" * 128), "x")
    with pytest.raises(StorageError):
        write_whole(tmp_path / "a\0b", "x")


def test_a_stale_part_or_a_link_in_its_place_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / f".numbers.{os.getpid()}.part").symlink_to(tmp_path / "mine")
    write_whole(tmp_path / "numbers", "new")
    assert (tmp_path / "mine").read_text() == "mine" and (tmp_path / "numbers").read_text() == "new"


def test_bytes_reach_the_disk_before_the_name_and_the_folder_after(tmp_path: Path) -> None:
    calls: list[str] = []

    def watched(name: str) -> Callable[..., None]:
        original = getattr(os, name)

        def call(*args: object) -> None:
            folder = name == "fsync" and stat.S_ISDIR(os.fstat(args[0]).st_mode)  # type: ignore[arg-type]
            calls.append("folder" if folder else name)
            original(*args)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("fsync", "replace"):
            patch.setattr(os, name, watched(name))
        write_json(tmp_path / "lineage.json", 1, sync=True)
        assert calls == ["fsync", "replace", "folder"]
        calls.clear()
        write_json(tmp_path / "progress.json", 1)
        assert calls == ["replace"]
