"""A wrong option, or a wrong place to run in, is a sentence and never a traceback. Real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fade.utils.seeds import MAX_SEED

LONG = "x" * 300


def run(repo: Path, *line: str | bytes, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(repo)}
    words = [sys.executable, "-m", *line]
    return subprocess.run(
        words, cwd=cwd or repo, env=env, capture_output=True, text=True, check=False, timeout=100
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (("generate", b"x\xff"), "the prompt: character 2 is"),
        (("generate", "x", "--seed", str(MAX_SEED + 1)), "'--seed'"),
        (("generate", "x", "--model", LONG), "File name too long"),
        (("generate", "x", "--out", "params.yaml"), "params.yaml is there, and no .png file"),
        (("generate", "x", "--world", "emojj"), "world: unknown world 'emojj'. Next: did you mean 'emoji'"),
        (("run", "--world", "emojj", "--style", "noto"), "Next: did you mean 'emoji'"),
        (("run", "--world", "\x1b[31m"), "unknown world"),
        (("run", "--world", "emoji", "--set", "data.base=worlds/sd3"), "no part of the world 'emoji'"),
        (("compose", LONG, LONG), "File name too long"),
        (("compose", "a", "a", "--out", ""), "it is a folder"),
        (("keys", "q", "--folder", f"/tmp/{LONG}"), "File name too long"),
        (("keys", "q", "--folder", "~no-such-user/x"), "write the folder's whole path"),
        (("requests", "add", "--concept", "", "--reason", "r"), "concept: field required"),
    ],
)
def test_a_wrong_option_is_a_sentence(
    repo: Path, tmp_path: Path, line: tuple[str | bytes, ...], message: str
) -> None:
    more = () if line[0] == "keys" else ("--runs-dir", str(tmp_path / "runs"))
    before = (repo / "params.yaml").read_bytes()
    done = run(repo, "flows.cli", *line, *more)
    assert done.returncode in (1, 2) and message in " ".join(done.stderr.split()), done.stderr
    assert "Traceback" not in done.stderr and (repo / "params.yaml").read_bytes() == before


def test_a_deleted_folder_is_named(repo: Path, tmp_path: Path) -> None:
    script = (
        "import os, sys; os.rmdir(os.getcwd()); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    (folder := tmp_path / "gone").mkdir()
    words = [sys.executable, "-c", script, "-m", "flows.cli", "decisions", "fade-panda"]
    env = {**os.environ, "PYTHONPATH": str(repo)}
    done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, timeout=100)
    assert done.returncode == 2 and "was deleted" in done.stderr and "Traceback" not in done.stderr, done


@pytest.mark.parametrize("port", ["0", "-1", "65536", "99999", "1e3"])
def test_a_port_of_the_pages_is_one(repo: Path, port: str) -> None:
    done = run(repo, "flows.local_stack.ui", f"--port={port}")
    assert done.returncode == 2 and "is no port from 1 to 65535" in done.stderr, done.stderr


def test_an_error_of_the_pages_moves_no_cursor(repo: Path) -> None:
    done = run(repo, "flows.local_stack.ui", "--runs", "/dev/null/\x1b[31mRED")
    assert done.returncode == 1 and "\\x1b[31mRED" in done.stderr and "\x1b" not in done.stderr, done.stderr
