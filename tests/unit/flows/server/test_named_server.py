"""Whatever answers at PREFECT_API_URL: a sentence with the next action, never a traceback or a hang."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from typing import Any

import pytest

from fade.errors import OrchestrationError
from flows.server import named_server
from flows.server.named_server import check_named_server


@contextmanager
def answering(status: int, body: bytes, login: str = "", slow: bool = False) -> Iterator[str]:
    """A server that gives every request one answer; ``slow``: a byte now and then, without an end."""
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Location", "http://127.0.0.1:1/")
            self.end_headers()
            self.wfile.write(body)
            while slow and not over.wait(0.05):
                self.wfile.write(b" ")

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/api"
    finally:
        over.set()
        server.shutdown()
        server.server_close()
        thread.join(10)


def test_a_server_of_our_major_version_passes() -> None:
    for theirs in (version("prefect"), f"{version('prefect').split('.')[0]}.999.0rc1"):
        with answering(200, json.dumps(theirs).encode()) as url:
            check_named_server(url, "")
            check_named_server(f"{url}/", "ann:secret")


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (200, b"<!doctype html><html>", "is no Prefect server .* ends in /api"),
        (200, b"", "is no Prefect server"),
        (200, b'{"version": "3.8.8"}', "is no Prefect server"),
        (200, b'"hello"', "is no Prefect server"),
        (200, b"3.8", "is no Prefect server"),
        (200, b"\xff\xfe\x00", "is no Prefect server"),
        (200, b"[" * 9_000, "is no Prefect server"),
        (200, b"x" * 1_000_000, "is no Prefect server"),
        (204, b"", "is no Prefect server"),
        (302, b"", "is no Prefect server"),
        (200, b'"2.20.1"', r"is Prefect 2\.20\.1; this is Prefect .* name a server of Prefect 3"),
        (404, b"", "answers 404"),
        (500, b"", "answers 500"),
        (401, b"", "refuses us .401.*set PREFECT_API_AUTH_STRING"),
        (403, b"", "refuses us .403.*set PREFECT_API_AUTH_STRING"),
    ],
)
def test_an_answer_that_is_none_is_named(status: int, body: bytes, sentence: str) -> None:
    with (
        answering(status, body) as url,
        pytest.raises(OrchestrationError, match=f"(?s)^prefect: .*{sentence}"),
    ):
        check_named_server(url, "ann:secret")


def test_an_answer_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named_server, "CONTACT_SECONDS", 0.3)
    began = time.monotonic()
    with answering(200, b"", slow=True) as url, pytest.raises(OrchestrationError, match=r"nothing in 0\.3 s"):
        check_named_server(url, "")
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the connection, answers nothing
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/api"
        with pytest.raises(OrchestrationError, match="no Prefect server answers"):
            check_named_server(url, "")
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "http://",
        "http://[::1",
        "http://127.0.0.1:99999/api",
        "ftp://127.0.0.1/api",
        "http://\0/api",
    ],
)
def test_an_address_that_is_none_is_named(url: str) -> None:
    with pytest.raises(OrchestrationError, match="PREFECT_API_URL.* unset it to run without"):
        check_named_server(url, "")


def test_a_login_in_the_address_is_not_shown() -> None:
    with pytest.raises(OrchestrationError) as caught:
        check_named_server("http://ann:hush@127.0.0.1:1/api", "")
    assert "hush" not in str(caught.value)
