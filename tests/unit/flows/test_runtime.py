"""The embedded server's start, and whose fault an error was."""

from __future__ import annotations

import httpx
import pytest

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
