"""The embedded server's start, and whose fault an error was."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest

from flows import runtime
from flows.runtime import _interrupted


def test_ctrl_c_is_found_behind_the_errors_that_it_brought_about() -> None:
    with pytest.raises(RuntimeError) as caught:
        fail()
    assert _interrupted(caught.value)


def fail() -> None:
    """As Prefect does: the report of the crash fails too, because the server is gone."""
    try:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise httpx.ConnectError("all connection attempts failed") from None
    except httpx.ConnectError as error:
        raise RuntimeError("the server cannot be reached") from error


@pytest.mark.parametrize("error", [httpx.ConnectError("refused"), RuntimeError("x"), None])
def test_other_errors_are_no_ctrl_c(error: Exception | None) -> None:
    assert not _interrupted(error)


def test_of_two_servers_the_second_waits_until_the_database_is_made(tmp_path: Path) -> None:
    first = runtime._make_alone(tmp_path, time.monotonic() + 5)
    assert first is not None
    began = time.monotonic()
    late = runtime._make_alone(tmp_path, began + 0.3)  # its time is up before the first is done: it goes on alone, and may fail
    assert late is not None and time.monotonic() - began >= 0.3
    late.close()
    runtime._stamp(tmp_path).touch()
    first.close()
    assert runtime._make_alone(tmp_path, time.monotonic() + 5) is None, "made is made"
