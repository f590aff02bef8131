"""The host check in front of a server: which Host and Origin pass."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from flows.server.host_check import HostCheckMiddleware


def answer(
    headers: list[tuple[str, str]],
    kind: str = "http",
    hosts: tuple[str, ...] = ("127.0.0.1", "[::1]", "prefect.team"),
) -> Any:
    """The status, "passed", or the code that a web socket is closed with."""
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        sent.append("passed")

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message.get("status", message.get("code")))

    scope = {"type": kind, "headers": [(key.encode(), value.encode()) for key, value in headers]}
    asyncio.run(HostCheckMiddleware(app, hosts)(scope, receive, send))
    return sent[0]


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:4200", "[::1]:4200", "PREFECT.team", "prefect.team:443"]
)
def test_our_own_names_pass(host: str) -> None:
    assert answer([("host", host)]) == "passed"
    assert answer([("Host", host), ("origin", f"http://{host}")], "websocket") == "passed"


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "evil.example:4200",
        "",
        "[::1",
        "127.0.0.1@evil.example",
        "::1",
    ],
)
def test_a_foreign_host_does_not(host: str) -> None:
    assert answer([("host", host)]) == 421
    assert answer([("host", host)], "websocket") == 1008


def test_no_host_or_two_do_not() -> None:
    assert answer([]) == 421
    assert answer([("host", "127.0.0.1"), ("host", "evil.example")]) == 421


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "", "http://127.0.0.1.evil.example"])
def test_a_foreign_origin_does_not(origin: str) -> None:
    assert answer([("host", "127.0.0.1"), ("origin", origin)]) == 403
    assert answer([("host", "127.0.0.1"), ("origin", origin)], "websocket") == 1008


def test_what_is_no_request_passes() -> None:
    assert answer([], "lifespan") == "passed"
