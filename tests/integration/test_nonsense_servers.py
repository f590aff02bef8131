"""MLFLOW_TRACKING_URI of what is no MLflow server: an error of ours within seconds. Real sockets."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from fade.errors import RegistryError, RegistryUnreachableError
from tasks.registry.connection import connect

pytestmark = pytest.mark.usefixtures("alone")
SECONDS = 15
Answer = Callable[[socket.socket], None]


@contextmanager
def listening(answer: Answer) -> Iterator[int]:
    """A server on loopback that does ``answer`` on every connection; its port."""
    server = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def handle(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            answer(connection)

    def accept() -> None:
        with suppress(OSError):
            while not ended.is_set():
                threading.Thread(target=handle, args=(server.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield server.getsockname()[1]
    finally:
        ended.set()
        server.shutdown(socket.SHUT_RDWR)
        server.close()


def http(body: str, kind: str = "application/json", status: str = "200 OK", more: str = "") -> Answer:
    text = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}"

    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(f"{text}Connection: close\r\n\r\n{body}".encode())

    return answer


def drip(connection: socket.socket) -> None:
    """A byte at a time, for ever, each in time."""
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        connection.sendall(b" ")
        time.sleep(0.3)


def never(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def refused(tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch, timeout: float = 24) -> RegistryError:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "")  # `connect` sets it for good: taken back after the test
    monkeypatch.delenv("PGCONNECT_TIMEOUT")
    begin = time.monotonic()
    with pytest.raises(RegistryError) as caught:
        connect(tmp_path, timeout=timeout)
    assert time.monotonic() - begin < SECONDS
    assert "secret" not in str(caught.value) and "Next: " in str(caught.value)
    assert not (tmp_path / "mlflow.db").exists()
    return caught.value


NONSENSE: dict[str, Answer] = {
    "HTML": http("<html><title>router</title></html>", "text/html"),
    "HTML as JSON": http("<html></html>"),
    "a list": http("[]"),
    "a list of lists": http("[[1]]"),
    "a number": http("3"),
    "null": http("null"),
    "a text": http('"hello"'),
    "other fields": http('{"status": "ok"}'),
    "an empty object": http("{}"),
    "experiments of another kind": http('{"experiments": 7}'),
    "experiments of numbers": http('{"experiments": [7]}'),
    "experiments of no fields": http('{"experiments": [{"name": ["x"]}]}'),
    "other bytes": http("\x00\x01\x02", "application/octet-stream"),
    "an error in HTML": http("<html></html>", "text/html", "500 Oops"),
    "a teapot": http("no", "text/plain", "418 teapot"),
}


@pytest.mark.parametrize("answer", NONSENSE.values(), ids=NONSENSE)
def test_an_answer_that_is_not_mlflows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Answer
) -> None:
    with listening(answer) as port:
        refused(tmp_path, f"http://ann:secret@127.0.0.1:{port}", monkeypatch)


def test_redirects_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(http("", status="302 Found", more="Location: /again\r\n")) as port:
        refused(tmp_path, f"http://ann:secret@127.0.0.1:{port}", monkeypatch)


@pytest.mark.parametrize("answer", [drip, never, socket.socket.close], ids=["drips", "silent", "closes"])
def test_an_answer_that_does_not_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Answer
) -> None:
    with listening(answer) as port:
        error = refused(tmp_path, f"http://ann:secret@127.0.0.1:{port}", monkeypatch)
    assert isinstance(error, RegistryUnreachableError)


@pytest.mark.parametrize("answer", [never, socket.socket.close, http("{}")], ids=["silent", "closes", "http"])
def test_a_database_server_that_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Answer
) -> None:
    with listening(answer) as port:
        uri = f"postgresql://ann:secret@127.0.0.1:{port}/mlflow"
        assert isinstance(refused(tmp_path, uri, monkeypatch), RegistryUnreachableError)


def test_a_silent_database_server_is_given_up_with_the_default_timeout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listening(never) as port:
        refused(tmp_path, f"postgresql://ann:secret@127.0.0.1:{port}/mlflow", monkeypatch, timeout=60)


@pytest.mark.parametrize(
    "uri",
    [
        "postgresql://ann:secret@127.0.0.1:port/mlflow",
        "postgres://ann:secret@127.0.0.1:1/mlflow",
        "mysql://ann:secret@127.0.0.1:1/mlflow",
        "postgresql+nodriver://ann:secret@127.0.0.1:1/mlflow",
        "http://[::1",
        "http://127.0.0.1:port",
        "http://",
        "gopher://127.0.0.1:1",
        "http:/127.0.0.1",
    ],
)
def test_an_address_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    refused(tmp_path, uri, monkeypatch)
