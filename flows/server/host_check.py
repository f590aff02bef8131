"""Which Host and which Origin a server of ours listens to.

Prefect's server takes any Host: a page in a browser that lets its own name point to this machine could use
it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
NAMES = "FADE_HOST_NAMES"
"""Environment variable of a server in a container: the names that people reach it by, separated by blanks."""


class Guard:
    """An ASGI application in front of another: a foreign Host is answered 421, a foreign Origin 403, a web
    socket of either is closed."""

    def __init__(self, app: App, hosts: Iterable[str] = LOOPBACK) -> None:
        self._app, self._hosts = app, frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        status = self._refusal(scope)
        if status is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            body = b"foreign Host\n" if status == 421 else b"foreign Origin\n"
            await send(
                {
                    "type": "http.response.start",
                    "status": status,
                    "headers": [(b"content-type", b"text/plain")],
                }
            )
            await send({"type": "http.response.body", "body": body})

    def _refusal(self, scope: Scope) -> int | None:
        if scope["type"] not in ("http", "websocket"):
            return None
        headers = [(key.lower(), value.decode("latin-1")) for key, value in scope["headers"]]
        hosts = [value for key, value in headers if key == b"host"]
        if len(hosts) != 1 or _name(f"//{hosts[0]}") not in self._hosts:
            return 421
        if any(_name(value) not in self._hosts for key, value in headers if key == b"origin"):
            return 403
        return None


def _name(address: str) -> str:
    """The host of an address without its port, as it is written in a Host header; empty when there is none
    (Origin: null)."""
    try:
        found = urlsplit(address).hostname or ""
    except ValueError:
        return ""
    return f"[{found}]" if ":" in found else found
