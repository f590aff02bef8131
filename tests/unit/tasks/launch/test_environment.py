"""The environment: quiet unless the user said otherwise, and DVC's folders private."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from fade.errors import StorageError
from tasks.launch.environment import (
    NO_TELEMETRY,
    OFFLINE,
    SAFER_DEFAULTS,
    configure_environment,
    write_private,
)
from tests.support import forked

DVC = ("DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR", "DVC_SITE_CACHE_DIR")


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in (*NO_TELEMETRY, *OFFLINE, *SAFER_DEFAULTS, *DVC, "NO_PROXY", "no_proxy"):
        monkeypatch.setenv(key, "")  # so that what configure_environment() sets is undone after the test
        monkeypatch.delenv(key)


def test_all_is_quiet_and_private(tmp_path: Path) -> None:
    configure_environment(tmp_path / "runs")
    for key, value in {**NO_TELEMETRY, **OFFLINE, **SAFER_DEFAULTS}.items():
        assert os.environ[key] == value
    for key in DVC:
        folder = Path(os.environ[key])
        assert folder.is_relative_to(tmp_path / "runs") and folder.stat().st_mode & 0o777 == 0o700


def test_the_user_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", "/elsewhere")
    configure_environment(tmp_path / "runs")
    assert os.environ["HF_HUB_OFFLINE"] == "0" and os.environ["DVC_SITE_CACHE_DIR"] == "/elsewhere"


def test_a_hub_stays_reachable_when_it_is_needed(tmp_path: Path) -> None:
    configure_environment(tmp_path / "runs", hub=True)
    assert not [key for key in OFFLINE if key in os.environ]
    assert os.environ["HF_HUB_DISABLE_TELEMETRY"] == "1"


def test_a_runs_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(StorageError, match=r"cannot be made: .*--runs-dir"):
        configure_environment(tmp_path / "runs")


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ({}, "127.0.0.1,localhost,::1"),
        ({"NO_PROXY": "intra.example, 10.0.0.1"}, "intra.example,10.0.0.1,127.0.0.1,localhost,::1"),
        ({"no_proxy": "localhost", "NO_PROXY": "b"}, "localhost,b,127.0.0.1,::1"),
    ],
)
def test_no_proxy_is_used_for_loopback(
    user: dict[str, str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in user.items():
        monkeypatch.setenv(key, value)
    for _ in range(2):
        configure_environment(tmp_path / "runs")
        assert os.environ["NO_PROXY"] == os.environ["no_proxy"] == expected


def test_no_proxy_for_any_host_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    configure_environment(tmp_path / "runs")
    assert os.environ["NO_PROXY"] == "*" and "no_proxy" not in os.environ


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user without an entry")
def test_a_user_whom_the_system_does_not_list_has_a_name_and_a_home(tmp_path: Path) -> None:
    import getpass

    def nobody() -> None:
        for key in ("LOGNAME", "USER", "LNAME", "USERNAME", "HOME"):
            os.environ.pop(key, None)
        os.chdir("/")
        os.setuid(45678)
        with pytest.raises((KeyError, OSError)):
            getpass.getuser()
        configure_environment(runs)
        assert getpass.getuser() == "uid-45678" and Path.home() == runs / "home"

    runs = tmp_path / "runs"
    runs.mkdir()
    os.chown(runs, 45678, -1)
    made_here = [one for one in tmp_path.parents if one.is_relative_to(Path(tempfile.gettempdir()))][:-1]
    for folder in (tmp_path, *made_here):
        folder.chmod(folder.stat().st_mode | 0o011)
    assert forked(nobody) == 0


def test_a_user_with_a_name_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "ann")
    monkeypatch.setenv("HOME", "/home/ann")
    configure_environment(tmp_path / "runs")
    assert (os.environ["LOGNAME"], os.environ["HOME"]) == ("ann", "/home/ann")


STREAMS = """
import os, sys
for number in map(int, sys.argv[1:]):
    os.close(number)
from tasks.launch.environment import open_standard_streams
open_standard_streams()
import socket
assert socket.socket().fileno() > 2
print("Jörg", flush=True)
print("Jörg", file=sys.stderr, flush=True)
assert sys.stdin.read() == ""
"""


@pytest.mark.parametrize("closed", [["0"], ["1"], ["2"], ["0", "1", "2"]])
def test_a_closed_stream_is_no_number_for_another_file(closed: list[str], repo: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STREAMS, *closed], cwd=repo, stdin=subprocess.DEVNULL, capture_output=True
    )
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr


def test_a_text_that_the_streams_encoding_lacks_is_written_with_escapes(repo: Path) -> None:
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-c", STREAMS], cwd=repo, env=env, stdin=subprocess.DEVNULL, capture_output=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"J\\xf6rg\n", b"J\\xf6rg\n")


def test_a_private_file_is_this_users_alone_and_whole(tmp_path: Path) -> None:
    path = write_private(tmp_path / "login", "secret")
    assert (path.stat().st_mode & 0o777, path.read_text()) == (0o600, "secret")
    with pytest.raises(StorageError, match="cannot be written"):
        write_private(tmp_path / "nowhere" / "login", "secret")
    assert list(tmp_path.iterdir()) == [path]
