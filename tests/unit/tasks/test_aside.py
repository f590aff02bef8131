"""The process aside: the same results as here, the same errors, and nothing left of it."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from fade.errors import DataError
from tasks import aside
from tasks.aside import Aside, ask, packed, unpacked
from tests.support import ends

HERE = "tests.unit.tasks.asked"


@pytest.fixture
def begun() -> Iterator[Aside]:
    aside.begin()
    assert aside._aside is not None
    yield aside._aside
    aside.end()


def test_it_answers_as_this_process_would(begun: Aside) -> None:
    there = ask(f"{HERE}:add", a=0.1, b=0.2)()
    aside.end()
    here = ask(f"{HERE}:add", a=0.1, b=0.2)()
    assert there["sum"] == here["sum"] == 0.1 + 0.2
    assert here["pid"] == os.getpid() != there["pid"]


def test_questions_wait_for_each_other_and_an_answer_that_nobody_took_is_no_other_s(begun: Aside) -> None:
    ask(f"{HERE}:add", a=1, b=1)
    second = ask(f"{HERE}:add", a=2, b=2)
    assert second()["sum"] == 4


def test_its_errors_are_the_house_s(begun: Aside) -> None:
    with pytest.raises(DataError) as caught:
        ask(f"{HERE}:refuse", what="panda.png is torn.")()
    assert (caught.value.what, caught.value.stage, caught.value.action) == (
        "panda.png is torn.",
        "validate",
        "mend it.",
    )
    with pytest.raises(RuntimeError, match=r"(?s)Traceback.*in fault.*ZeroDivisionError: by zero"):
        ask(f"{HERE}:fault")()
    assert ask(f"{HERE}:add", a=1, b=2)()["sum"] == 3, "it goes on"


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_where_it_is_gone_this_process_does_it(begun: Aside, when: str) -> None:
    process = begun._process
    if when == "before":
        process.kill()
        process.wait()
        wait = ask(f"{HERE}:add", a=1, b=2)
    else:
        ask(f"{HERE}:die")
        wait = ask(f"{HERE}:add", a=1, b=2)
    got = wait()
    assert (got["sum"], got["pid"]) == (3, os.getpid())
    assert aside._aside is None and process.returncode is not None


def test_it_can_be_stopped_in_the_middle_of_its_work(begun: Aside) -> None:
    ask(f"{HERE}:pause", seconds=60)
    began = time.monotonic()
    aside.end()
    assert time.monotonic() - began < 5
    assert not psutil.pid_exists(begun._process.pid)


def test_ctrl_c_is_the_run_s_to_hear(begun: Aside) -> None:
    ask(f"{HERE}:add", a=1, b=1)()
    begun._process.send_signal(signal.SIGINT)
    assert ask(f"{HERE}:add", a=1, b=2)()["pid"] == begun._process.pid


def test_it_ends_with_whoever_began_it(repo: Path) -> None:
    """Killed -9, a run cannot stop it."""
    starter = f"from tasks import aside; aside.begin(); print(aside.ask('{HERE}:add', a=1, b=1)()['pid'], flush=True); input()"
    run = subprocess.Popen(
        [sys.executable, "-c", starter], cwd=repo, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert run.stdin and run.stdout
    other = psutil.Process(int(run.stdout.readline()))
    assert other.is_running()
    run.kill()
    run.communicate()
    assert ends(other)


def test_what_cannot_be_imported_ahead_is_no_reason_to_end() -> None:
    process = Aside("no_such_module", HERE)
    try:
        assert process.ask(f"{HERE}:add", a=1, b=1)()["sum"] == 2
    finally:
        process.stop()


def test_answers_are_lines_of_json_and_end_with_the_reader() -> None:
    question = (
        json.dumps({"number": 1, "function": f"{HERE}:add", "arguments": {"a": 1, "b": 2}}).encode() + b"\n"
    )
    out = io.BytesIO()
    aside.serve(io.BytesIO(question * 2), out)
    assert [json.loads(line)["result"]["sum"] for line in out.getvalue().splitlines()] == [3, 3]
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb", buffering=0) as nobody:
        aside.serve(io.BytesIO(question), nobody)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
        np.zeros((0, 8, 8, 3), np.uint8),
        np.array([0.1, np.nan]),
    ],
)
def test_an_array_comes_back_as_it_was(array: np.ndarray) -> None:
    got = unpacked(json.loads(json.dumps(packed(array))))
    assert got.dtype == array.dtype
    np.testing.assert_array_equal(got, array)
