"""The embedded server's start, and whose fault an error was."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from prefect.context import refresh_global_settings_context
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
    get_current_settings,
    temporary_settings,
)

from flows.server import runtime
from flows.server.runtime import _interrupted


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


@pytest.mark.parametrize("kind", [ValueError, RuntimeError, httpx.ConnectError])
def test_ctrl_c_stays_ctrl_c_whatever_the_engine_makes_of_it(
    monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    """Seen: a signal between two of the engine's steps came out as `ValueError: Task run is not set`."""
    monkeypatch.setattr(runtime, "start", lambda: None)

    def flow(interrupted: bool) -> None:
        try:
            if interrupted:
                raise KeyboardInterrupt
        finally:
            raise kind("Task run is not set")

    with pytest.raises(KeyboardInterrupt):
        runtime.run(flow, interrupted=True)
    if kind is ValueError:
        with pytest.raises(ValueError, match="not set"):
            runtime.run(flow, interrupted=False)


def test_of_two_servers_the_second_waits_until_the_database_is_made(tmp_path: Path) -> None:
    first = runtime.creation_lock(tmp_path, 5)
    began = time.monotonic()
    # its time is up before the first is done: it goes on alone, and may fail
    late = runtime.creation_lock(tmp_path, 0.3)
    assert time.monotonic() - began >= 0.3
    late.close()
    runtime.creation_stamp(tmp_path).touch()
    first.close()
    began = time.monotonic()
    with runtime.creation_lock(tmp_path, 5), runtime.creation_lock(tmp_path, 5):
        assert time.monotonic() - began < 5, "made is made"


def test_a_server_that_waited_goes_on_as_soon_as_the_database_is_made(tmp_path: Path) -> None:
    first = runtime.creation_lock(tmp_path, 5)

    def finish() -> None:
        time.sleep(0.3)
        runtime.creation_stamp(tmp_path).touch()
        first.close()

    thread = threading.Thread(target=finish)
    thread.start()
    began = time.monotonic()
    with runtime.creation_lock(tmp_path, 20), runtime.creation_lock(tmp_path, 20):
        assert 0.2 < time.monotonic() - began < 10
    thread.join()


class Begun:
    """In the place of the embedded server's process."""

    url, login, patience, stopped = "http://127.0.0.1:1/api", "fade:secret", 0.0, False

    def __init__(self, home: Path, *, whole: bool = False) -> None:
        self.home, self.whole = home, whole

    def stop(self) -> None:
        self.stopped = True


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Begun]]:
    """The servers that were begun; the settings are as before afterwards."""
    made: list[Begun] = []
    monkeypatch.setattr(runtime, "_server", None)
    monkeypatch.setattr(runtime, "Server", lambda home, **how: made.append(Begun(home, **how)) or made[-1])
    with monkeypatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(tmp_path))
        patch.setenv("PREFECT_API_URL", "")
        patch.setenv("PREFECT_API_AUTH_STRING", "ann:for another server")
        patch.setenv("PREFECT_API_KEY", "for another server")
        yield made
    refresh_global_settings_context()


def test_a_server_is_begun_and_named_to_all_who_ask(begun: list[Begun], tmp_path: Path) -> None:
    runtime.serve(whole=True)
    assert [(one.home, one.whole, one.stopped) for one in begun] == [(tmp_path, True, False)]
    assert os.environ["PREFECT_API_URL"] == get_current_settings().api.url == Begun.url
    assert os.environ["PREFECT_API_AUTH_STRING"] == Begun.login and "PREFECT_API_KEY" not in os.environ
    assert begun[0].patience == get_current_settings().server.ephemeral.startup_timeout_seconds
    runtime.serve()
    assert len(begun) == 1


@pytest.mark.parametrize(
    "said", [{PREFECT_API_URL: "http://elsewhere/api"}, {PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: False}]
)
def test_one_that_the_settings_do_not_want_is_stopped_again(begun: list[Begun], said: dict[Any, Any]) -> None:
    with temporary_settings(said):
        runtime.serve()
    assert (
        [one.stopped for one in begun] == [True]
        and runtime._server is None
        and os.environ["PREFECT_API_URL"] == ""
        and os.environ["PREFECT_API_AUTH_STRING"] == "ann:for another server"
    )


def test_a_server_gets_a_login_of_its_own_and_no_login_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []

    def group(command: list[str], *, env: dict[str, str], **_: Any) -> Any:
        given.append((command, dict(env)))
        return SimpleNamespace(stop=lambda grace: None)

    monkeypatch.setattr(runtime, "Group", group)
    keys = ("PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_KEY")
    for key in (*keys, "PREFECT_CLIENT_CUSTOM_HEADERS"):
        monkeypatch.setenv(key, "another")
    runtime.creation_stamp(tmp_path).touch()
    servers = [runtime.Server(tmp_path) for _ in range(2)]
    logins = [server.login for server in servers]
    for server in servers:
        server.stop()
    assert len(set(logins)) == 2 and all(len(login) > 40 for login in logins)
    for login, (command, env) in zip(logins, given, strict=True):
        assert env["PREFECT_SERVER_API_AUTH_STRING"] == login and "another" not in env.values()
        assert login.partition(":")[2] not in " ".join(command)


def test_the_address_and_login_of_a_scheduler_are_for_this_user_alone(
    begun: list[Begun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime.serve(whole=True)
    assert (file := runtime.announce(tmp_path)) is not None and file.stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv("PREFECT_API_URL", "")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "ann:for another server")
    assert runtime.join(tmp_path)
    assert (os.environ["PREFECT_API_URL"], os.environ["PREFECT_API_AUTH_STRING"]) == (Begun.url, Begun.login)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"url": 1, "login": null, "worker": 7}', '{"url": "x", "worker": {}}', "\0"]
)
def test_a_file_that_names_no_scheduler_is_as_none(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "")
    (tmp_path / runtime.SERVING).write_text(text)
    assert runtime.join(tmp_path) is False and os.environ["PREFECT_API_URL"] == ""


def test_a_server_of_the_users_own_keeps_its_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "ann:hers")
    runtime.serve()
    assert runtime.join(tmp_path) and os.environ["PREFECT_API_AUTH_STRING"] == "ann:hers"
