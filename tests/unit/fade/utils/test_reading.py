"""Whatever lies under the name of a file that is read, the answer is an error of its own, at once."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fade.adapters.adapter_file import read_adapter
from fade.data.dvcfile import hash_folder, read_dvc_file
from fade.data.images import Preprocessor, read_pictures
from fade.data.manifest import read_manifest
from fade.data.vocabulary import Vocabulary
from fade.errors import DataError, FadeError
from fade.governance.requests import load_requests
from fade.jobs.base import kind_of
from fade.models.layout import read_config
from fade.provenance.lineage import Lineage
from fade.run.resolve_params import load_params
from fade.utils.files import read_json
from fade.utils.hashing import md5_of, sha256_of
from fade.utils.reading import RefusedFileError, open_regular, read_bytes, read_text

SECONDS = 20.0
READERS: dict[str, Callable[[Path], Any]] = {
    "params.yaml": load_params,
    "requests.yaml": load_requests,
    "manifest.csv": read_manifest,
    "vocabulary.txt": Vocabulary.from_file,
    "data.dvc": read_dvc_file,
    "lineage.json": Lineage.load,
    "job.json": kind_of,
    "config.json": read_config,
    "preprocessor_config.json": lambda path: Preprocessor(path.parent, 64),
    "adapter.safetensors": read_adapter,
    "panda.png": lambda path: read_pictures([path]),
}


def sparse(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(6 << 30)


def listening(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


HOSTILE: dict[str, Callable[[Path], object]] = {
    "a named pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a terminal": lambda path: path.symlink_to("/dev/tty"),
    "6 GB of nothing": sparse,
    "a folder": Path.mkdir,
    "a socket": listening,
    "a link to itself": lambda path: path.symlink_to(path.name),
    "bytes that are no text": lambda path: path.write_bytes(b"\xff\xfe\x00\x80"),
    "NUL": lambda path: path.write_bytes(b"a: \0\n"),
    "nothing": Path.touch,
}
ALLOWED = {("params.yaml", "nothing"), ("requests.yaml", "nothing")}
"""Empty files that mean something: the defaults, no request."""


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_file_of_its_kind_is_refused_by_name_at_once(tmp_path: Path, name: str, what: str) -> None:
    HOSTILE[what](tmp_path / name)
    start = time.monotonic()
    if (name, what) in ALLOWED:
        READERS[name](tmp_path / name)
    else:
        with pytest.raises(FadeError) as caught:
            READERS[name](tmp_path / name)
        assert name in str(caught.value) and caught.value.action and caught.value.stage, str(caught.value)
    assert time.monotonic() - start < SECONDS


@pytest.mark.parametrize("hashed", [sha256_of, md5_of, read_json])
def test_a_hash_or_a_record_does_not_wait_for_a_pipe(tmp_path: Path, hashed: Callable[[Path], Any]) -> None:
    os.mkfifo(tmp_path / "pipe")
    if hashed is read_json:
        assert hashed(tmp_path / "pipe") is None
    else:
        with pytest.raises(RefusedFileError, match="named pipe"):
            hashed(tmp_path / "pipe")


def test_a_pipe_beside_the_data_is_named_by_the_pull(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    assert set(hash_folder(tmp_path)) == {"a.png"}
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match=r"pipe is no file of a data set: it is a named pipe\. Next: remove"):
        hash_folder(tmp_path)


def test_the_limit_is_of_what_is_read_not_of_what_is_stated(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"12345")
    assert read_bytes(path, 5) == b"12345"
    with pytest.raises(RefusedFileError, match="larger than 4 bytes"):
        read_bytes(path, 4)
    with pytest.raises(RefusedFileError, match="larger than 1 KiB"):
        read_bytes(Path("/proc/cpuinfo"), 1024)  # its size is stated as 0


def test_links_are_followed_unless_the_caller_refuses_them(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("é\r\n", encoding="utf-8", newline="")
    (tmp_path / "link").symlink_to("x")
    assert read_text(tmp_path / "link", 99) == "é\n"
    with pytest.raises(RefusedFileError, match="it is a link"):
        open_regular(tmp_path / "link", 99, links=False)
    with pytest.raises(FileNotFoundError):
        read_text(tmp_path / "gone", 99)
    with pytest.raises(RefusedFileError, match="NUL"):
        read_text(tmp_path / "a\0b", 99)
